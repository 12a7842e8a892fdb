//! Prometheus's own judges: promtool reads our file, a real node exporter serves it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Work, jobs::PROM_FILE, read, tools::Tools};
use crate::step::{Program, Result};

/// An exporter that does not answer by then has failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// The names a dashboard may rely on.
const SERIES: &[&str] = &[
    "nexusflow_pipeline_info",
    "nexusflow_run_last_timestamp_seconds",
    "nexusflow_run_last_success_timestamp_seconds",
    "nexusflow_run_duration_seconds",
    "nexusflow_run_success",
];

pub fn promtool(tools: &Tools, work: &Work) -> Result {
    let output = Program::new(&tools.promtool).args(["check", "metrics"]).stdin(work.path(PROM_FILE)).output()?;
    // It ends well although it has advice to give: no advice is asked for here.
    match output.status.success() && output.stdout.is_empty() && output.stderr.is_empty() {
        true => Ok(()),
        false => {
            let said = [output.stdout, output.stderr].concat();
            Err(format!("promtool check metrics: {}", String::from_utf8_lossy(&said)))
        }
    }
}

pub fn node_exporter(tools: &Tools, work: &Work) -> Result {
    let file = work.path(PROM_FILE);
    let address = free_address()?;
    let exporter = Command::new(&tools.node_exporter)
        .arg(format!("--web.listen-address={address}"))
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg(format!("--collector.textfile.directory={}", file.parent().unwrap().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _exporter = Killed(exporter.map_err(|e| format!("{}: {e}", tools.node_exporter.display()))?);
    let served = get(address, Instant::now() + ANSWERS_WITHIN)?;
    let written = String::from_utf8_lossy(&read(&file)?).into_owned();
    compare(&written, &served)
}

fn compare(written: &str, served: &str) -> Result {
    if !served.lines().any(|line| line == "node_textfile_scrape_error 0") {
        return Err(format!("the exporter could not read the file; it serves:\n{served}"));
    }
    for name in SERIES {
        if count(written, name) == 0 {
            return Err(format!("the file has no {name}:\n{written}"));
        }
    }
    for name in written.lines().filter_map(series) {
        let (here, there) = (count(written, name), count(served, name));
        if here != there {
            return Err(format!("{name}: {here} series written, {there} served"));
        }
    }
    Ok(())
}

/// The name of a line's series, if it is one.
fn series(line: &str) -> Option<&str> {
    let name = line.split(['{', ' ']).next()?;
    (!name.is_empty() && !name.starts_with('#')).then_some(name)
}

fn count(text: &str, name: &str) -> usize {
    text.lines().filter_map(series).filter(|found| *found == name).count()
}

/// A port of this machine alone that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map_err(|e| format!("no free port: {e}"))
}

fn get(address: SocketAddr, deadline: Instant) -> Result<String> {
    loop {
        match try_get(address) {
            Ok(text) => return Ok(text),
            Err(e) if Instant::now() > deadline => return Err(format!("the node exporter does not answer: {e}")),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn try_get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    // HTTP/1.0: the answer ends with the connection and comes in one piece.
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A process that ends with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
