//! The command line: arguments in, a call down, output out. One file per verb.

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
