//! Only starts the command line.

fn main() -> std::process::ExitCode {
    nexusflow::cli::main()
}
