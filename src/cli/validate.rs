//! `dag validate`: checks files, asking nothing of this machine.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::load::{self, Refused};
use super::{complain, exit, print};
use crate::diag::Diagnostics;
use crate::diag::{Format as Rendering, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pipeline files: .yaml, .yml or .toml
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Give a var of the files a value; beats its `env` and `default`
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = load::name_value)]
    set: Vec<(String, String)>,
    /// For people, for programs, for annotations of pull requests, for code scanning
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Github,
    Sarif,
}

pub fn run(args: &Args) -> ExitCode {
    let mut found = Diagnostics::default();
    let set: BTreeMap<_, _> = args.set.iter().cloned().collect();
    for file in &args.files {
        match load::pipeline(file, &set, false, &mut found) {
            Ok(_) | Err(Refused::File) => {}
            Err(Refused::Usage(message)) => return complain(message, exit::USAGE),
        }
    }
    let rendering = match args.format {
        Format::Human => Rendering::Human { color: load::colours(&io::stderr()) },
        Format::Json => Rendering::Json,
        Format::Github => Rendering::Github,
        Format::Sarif => Rendering::Sarif,
    };
    let text = render(&found.list, rendering);
    let written = match args.format {
        Format::Human => io::stderr().write_all(text.as_bytes()).is_ok(),
        Format::Json | Format::Github | Format::Sarif => print(&text) == ExitCode::SUCCESS,
    };
    match () {
        () if found.has_errors() => ExitCode::from(exit::INVALID_FILE),
        () if !written => ExitCode::from(exit::FAILED),
        () if args.format == Format::Human && found.list.is_empty() => {
            let n = args.files.len();
            print(&format!("{n} file{} checked: valid\n", if n == 1 { "" } else { "s" }))
        }
        () => ExitCode::SUCCESS,
    }
}
