//! A filter: passes on the numbers that are prime. Any number of replicas may share the work.

use std::process::ExitCode;

use nexusflow_stage::Stage;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("primes: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let stage = Stage::from_env()?;
    let mut numbers = stage.input("numbers")?;
    let mut primes = stage.output("primes")?;
    let mut found = 0u64;
    let mut text = Vec::new();
    while let Some(message) = numbers.recv()? {
        text.clear();
        message.append_to(&mut text);
        if is_prime(std::str::from_utf8(&text)?.parse()?) {
            found += 1;
            match primes.send(&text) {
                Err(e) if e.is_closed() => break, // nobody wants more: no failure
                other => other?,
            }
        }
    }
    eprintln!("replica {} of {} found {found}", stage.replica(), stage.replicas());
    Ok(())
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
