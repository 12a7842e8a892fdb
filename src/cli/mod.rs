//! The command line: arguments in, a call down, output out. One file per verb.

pub mod dirs;
pub mod history;
mod logs;
pub mod topology;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
