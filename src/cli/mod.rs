//! The command line: arguments in, a call down, output out. One file per verb.

pub mod topology;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
