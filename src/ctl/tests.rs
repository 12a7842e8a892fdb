//! A run's socket and its clients, good and bad, in one process.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nexusflow_sys::{listen, socket};

use super::packets::MAX_REQUEST;
use super::*;

const RUN: &str = "clicks-20261122T105233-0000002a";

fn reply(request: Request) -> Reply {
    let answer = match request {
        Request::Hello => {
            Answer::Hello { version: VERSION, run: RUN.into(), pipeline: "clicks".into(), pid: std::process::id() }
        }
        Request::Edge { .. } => Answer::Edge(EdgeState::Open { rings: 3, anew: 0 }),
        Request::Objects { .. } => Answer::Objects { objects: Vec::new(), next: None },
        Request::Stat { .. } | Request::Tap { .. } => {
            Answer::Refused { reason: "x".repeat(2 * MAX_ANSWER), help: None }
        }
    };
    (answer, Vec::new())
}

/// Serves clients as the runner's loop does, until told to stop.
fn serve(mut server: Server, stop: &std::sync::atomic::AtomicBool) {
    let mut clients = Vec::new();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        clients.extend(server.accept().unwrap());
        clients.retain(|&c| {
            let next = server.serve(c, reply);
            if next == Next::Close {
                server.close(c);
            }
            next != Next::Close
        });
        std::thread::yield_now();
    }
}

/// Runs `asks` beside a run that answers.
fn with_run(asks: impl FnOnce(&[PathBuf])) {
    let tmp = tempfile::tempdir().unwrap();
    let folders = [PathBuf::from("/proc/no-such"), tmp.path().join("run")];
    let server = Server::open(&folders, RUN).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| serve(server, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| asks(&folders)));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        done.unwrap();
    });
    assert_eq!(std::fs::read_dir(&folders[1]).unwrap().count(), 0, "the name goes with the run");
}

#[test]
fn a_run_is_found_by_id_prefix_and_pipeline() {
    with_run(|folders| {
        for word in [RUN, "clicks", "clicks-2026", "cl"] {
            let found = find(folders, word).unwrap_or_else(|e| panic!("{word}: {e}"));
            assert_eq!((found.run.as_str(), found.pipeline.as_str()), (RUN, "clicks"));
            let (answer, fds) = found.ask(&Request::Edge { edge: "e".into() }).unwrap();
            assert_eq!((answer, fds.len()), (Answer::Edge(EdgeState::Open { rings: 3, anew: 0 }), 0));
        }
        let told = |word| find(folders, word).unwrap_err().to_string();
        assert!(told("clikcs").ends_with("did you mean `clicks`?"), "{}", told("clikcs"));
        assert!(told("zzz").ends_with(&format!("there are: {RUN}")), "{}", told("zzz"));
        assert!(told("").contains("there are"));
    });
    let tmp = tempfile::tempdir().unwrap();
    assert!(find(&[tmp.path().into()], "clicks").unwrap_err().to_string().ends_with("nothing runs"));
}

#[test]
fn the_newest_run_of_a_pipeline_is_meant_and_a_prefix_of_several_is_refused() {
    with_run(|folders| {
        let older = Server::open(folders, "clicks-20261122T105232-ffffffff").unwrap();
        let newest = find(folders, "clicks").unwrap();
        assert_eq!(newest.run, RUN);
        assert!(matches!(find(folders, "clicks-2026").unwrap_err(), NotFound::Ambiguous(_, runs) if runs.len() == 2));
        drop(older);
    });
}

#[test]
fn the_socket_is_private_and_what_the_dead_left_is_swept() {
    let tmp = tempfile::tempdir().unwrap();
    let folder = tmp.path().join("run");
    std::fs::create_dir(&folder).unwrap();
    drop(listen::listen(&folder.join("dead-1.sock"), 1).unwrap());
    let server = Server::open(std::slice::from_ref(&folder), RUN).unwrap();
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names, [folder.join(format!("{RUN}.sock"))]);
    assert_eq!(names[0].metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    drop(server);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Server::open(&[folder], RUN).unwrap_err();
    assert!(refused.contains("others may write to it"), "{refused}");
}

#[test]
fn who_breaks_the_rules_is_cut_off_and_nobody_else() {
    with_run(|folders| {
        let path = folders[1].join(format!("{RUN}.sock"));
        let good = find(folders, RUN).unwrap();
        let end_of = |packet: &[u8], fds: bool| {
            let bad = listen::connect(&path).unwrap();
            let fd = bad.as_fd();
            socket::send(&bad, packet, if fds { std::slice::from_ref(&fd) } else { &[] }).unwrap();
            assert!(socket::wait_readable(&bad, Some(std::time::Duration::from_secs(10))).unwrap());
            let mut buffer = vec![0; MAX_ANSWER];
            let n = listen::receive_bytes(&bad, &mut buffer).unwrap_or(0);
            String::from_utf8(buffer[..n].to_vec()).unwrap()
        };
        assert_eq!(end_of(&[b'x'; MAX_REQUEST + 1], false), "", "too long");
        assert_eq!(end_of(br#"{"ask":"hello"}"#, true), "", "with a descriptor");
        assert!(end_of(b"rubbish", false).contains("does not understand"));
        assert!(end_of(br#"{"ask":"riddle"}"#, false).contains("does not understand"));
        assert!(end_of(br#"{"ask":"stat"}"#, false).contains("too long"));
        // Asks and asks, and takes no answer: it waits, everyone else does not.
        let greedy = listen::connect(&path).unwrap();
        while socket::send(&greedy, br#"{"ask":"hello"}"#, &[]).is_ok() {}
        good.ask(&Request::Hello).unwrap();
        drop(greedy);
        let mut crowd = Vec::new();
        let turned_away = loop {
            match find(folders, RUN) {
                Ok(client) => crowd.push(client),
                Err(e) => break e.to_string(),
            }
            assert!(crowd.len() < 1000);
        };
        assert!(turned_away.contains("others are connected"), "{turned_away}");
        good.ask(&Request::Hello).unwrap();
        drop(crowd);
    });
}
