//! `nexusflow plasma`: the objects that running pipelines hold.

use std::io;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::dirs;
use super::edge::{Format, Trouble, connect, exit_code, put};
use crate::ctl::{self, Answer, Connection, Error, ObjectStat, Request};
use crate::record::human::{Align, bytes, duration, table};

#[derive(Debug, Subcommand)]
pub enum Plasma {
    /// List the objects that are held, and by whom: made, and not released by everyone
    Ls(LsArgs),
}

#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// A run's id, the start of one, or a pipeline's name (its newest run); every run if not given
    run: Option<String>,
    /// Only this edge
    #[arg(requires = "run")]
    edge: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(verb: &Plasma) -> ExitCode {
    let Plasma::Ls(args) = verb;
    exit_code(ls(args))
}

fn ls(args: &LsArgs) -> Result<(), Trouble> {
    let mut runs = Vec::new();
    match &args.run {
        Some(word) => {
            let run = connect(word)?;
            let objects = objects(&run, args.edge.as_deref())?;
            runs.push((run, objects));
        }
        None => {
            for run in ctl::all(&dirs::runtime()) {
                match objects(&run, None) {
                    Ok(objects) => runs.push((run, objects)),
                    Err(Error::Gone) => {} // between two questions
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
    let text = match args.format {
        Format::Human => human(&runs),
        Format::Json => format!("{:#}\n", Value::from_iter(runs.iter().map(as_json))),
    };
    put(&mut io::stdout().lock(), text.as_bytes())
}

/// All that are held now: as many questions as it takes.
fn objects(run: &Connection, edge: Option<&str>) -> Result<Vec<ObjectStat>, Error> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match run.ask(&Request::Objects { edge: edge.map(str::to_owned), after })?.0 {
            Answer::Objects { objects, next } => {
                all.extend(objects);
                // It goes on behind where it was, or it would go on for ever.
                match next {
                    Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                    _ => return Ok(all),
                }
            }
            other => return Err(Error::Nonsense(format!("{other:?}"))),
        }
    }
}

fn human(runs: &[(Connection, Vec<ObjectStat>)]) -> String {
    let rows: Vec<_> = runs
        .iter()
        .flat_map(|(run, objects)| {
            objects.iter().map(|o| {
                [
                    run.run.clone(),
                    o.edge.clone(),
                    o.producer.clone(),
                    o.object.to_string(),
                    bytes(o.bytes),
                    duration(o.age_s),
                    o.held_by.join(", "),
                ]
            })
        })
        .collect();
    if rows.is_empty() {
        return match runs {
            [] => "nothing runs\n".into(),
            [(run, _)] => format!("{}: no object is held\n", run.run),
            runs => format!("{} runs: no object is held\n", runs.len()),
        };
    }
    let heading = [
        ("RUN", Align::Left),
        ("EDGE", Align::Left),
        ("MADE BY", Align::Left),
        ("OBJECT", Align::Right),
        ("SIZE", Align::Right),
        ("AGE", Align::Right),
        ("HELD BY", Align::Left),
    ];
    table(heading, &rows)
}

fn as_json((run, objects): &(Connection, Vec<ObjectStat>)) -> Value {
    json!({ "run": run.run, "pipeline": run.pipeline, "objects": objects })
}
