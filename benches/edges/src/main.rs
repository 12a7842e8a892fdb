//! What an edge costs, beside its rivals and beside the limits of the machine: two processes, each pinned to a CPU of
//! its own, every byte written and every byte read. `cargo xtask bench edges` builds and runs it.
//!
//! Each round measures all contestants of a case in turn. Each measurement stands between two raw ping-pongs of cache
//! lines, which say how near the two CPUs were to each other (a hypervisor moves them); ratios are taken within one
//! round and one such bucket only.

mod broadcast;
mod bucket;
mod cases;
mod external;
mod objects;
mod ours;
mod peer;
mod queues;
mod raw;
mod report;
mod streams;
mod transport;

use std::error::Error;
use std::path::PathBuf;

use nexusflow_sys::sched;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: edges-bench [--quick] [--rounds N] [--case TEXT] [--cpus A,B] [--json FILE]

  --quick      one size of each kind, 5 rounds of 50 ms each
  --rounds N   measurements of each figure (default 5)
  --case TEXT  only the cases whose name contains TEXT
  --dora COMMAND,FOLDER  also measures dora: its command, and the folder of its dataflow
  --script FILE, --plasma PYTHON, --vineyard PYTHON
               also measures these object stores: benches/objects/peer.py, and a Python that has each
  --cpus A,B   where the two processes run (default: the first two that may be used)
";

pub struct Options {
    quick: bool,
    rounds: usize,
    case: String,
    cpus: [u32; 2],
    installed: external::Installed,
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    if let Some(order) = peer::order() {
        return peer::serve(&order);
    }
    let options = match options() {
        Ok(options) => options,
        Err(what) => {
            eprint!("{what}\n{USAGE}");
            std::process::exit(2);
        }
    };
    sched::set_affinity(0, &[options.cpus[0]])?;
    report::machine(&options);
    let results = cases::run(&options)?;
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&results))?;
        println!("\n{}", path.display());
    }
    Ok(())
}

fn options() -> Result<Options> {
    let cpus = match sched::affinity(0)?[..] {
        [a, b, ..] => [a, b],
        _ => return Err("two CPUs are needed".into()),
    };
    let mut options =
        Options { quick: false, rounds: 5, case: String::new(), cpus, installed: Default::default(), json: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--case" => options.case = value()?,
            "--dora" => {
                let value = value()?;
                let (dora, folder) = value.split_once(',').ok_or("--dora wants COMMAND,FOLDER")?;
                options.installed.dora = Some((dora.into(), folder.into()));
            }
            "--plasma" => options.installed.plasma = Some(value()?.into()),
            "--vineyard" => options.installed.vineyard = Some(value()?.into()),
            "--script" => options.installed.script = value()?.into(),
            "--json" => options.json = Some(value()?.into()),
            "--cpus" => {
                let cpus = value()?.split(',').map(str::parse).collect::<std::result::Result<Vec<u32>, _>>()?;
                options.cpus = cpus.try_into().map_err(|_| "--cpus wants two: 0,1")?;
            }
            _ => return Err(format!("not understood: {arg}").into()),
        }
    }
    Ok(options)
}
