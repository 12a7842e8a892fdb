//! A sink: counts and sums the numbers it is given.

use std::process::ExitCode;

use nexusflow_stage::Stage;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sum: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let stage = Stage::from_env()?;
    let (mut count, mut sum) = (0u64, 0u64);
    for message in stage.input("primes")?.messages() {
        sum += std::str::from_utf8(&message?)?.parse::<u64>()?;
        count += 1;
    }
    println!("{count} primes, sum {sum}");
    Ok(())
}
