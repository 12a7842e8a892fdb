//! How many processes a second one thread starts and reaps: this crate's spawn beside the raw limit, in one run.
//! `cargo run --release -p nexusflow-sys --example spawn_bench [PROGRAM [COUNT]]`; without a program it takes /bin/true
//! and, on x86-64, a static program of a few bytes that only exits.

use nexusflow_sys::process::{self, Status};
use nexusflow_sys::sched;
use nexusflow_sys::spawn::Spawn;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

/// The two sides take turns this often, so that both see the same machine.
const TURNS: usize = 40;
const STACK_BYTES: usize = 64 << 10;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().map(|p| CString::new(p.into_vec())).transpose()?;
    let count = arguments.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(10_000);
    let first = sched::affinity(0)?[0];
    sched::set_affinity(0, &[first])?;
    match program {
        Some(program) => compare(&program, count),
        None => {
            compare(c"/bin/true", count / 4)?;
            match noop()? {
                Some(path) => {
                    compare(&path, count).and_then(|()| std::fs::remove_file(path.to_str().unwrap_or_default()))
                }
                None => Ok(()),
            }
        }
    }
}

fn compare(program: &CStr, count: usize) -> std::io::Result<()> {
    let argv = [program.to_owned()];
    let envp: Vec<CString> = Vec::new();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let fds: Vec<(BorrowedFd<'_>, i32)> = (0..3).map(|target| (null.as_fd(), target)).collect();
    let cpus = sched::affinity(0)?;
    let bare = || run(Spawn::new(program, &argv, &envp));
    let full = || {
        let mut spawn =
            Spawn { fds: &fds, affinity: Some(&cpus), own_group: true, ..Spawn::new(program, &argv, &envp) };
        spawn.death_signal = Some(libc::SIGKILL);
        run(spawn)
    };
    let sides: [(&str, &dyn Fn()); 3] =
        [("raw clone+wait4", &|| raw(program)), ("Spawn::run+wait", &bare), ("with all steps", &full)];
    // The best turn of each: whatever else the machine does only ever adds.
    let mut times = [Duration::MAX; 3];
    for _ in 0..TURNS {
        for ((_, side), time) in sides.iter().zip(&mut times) {
            let start = Instant::now();
            (0..count / TURNS).for_each(|_| side());
            *time = start.elapsed().min(*time);
        }
    }
    println!("{}", program.to_string_lossy());
    for ((name, _), time) in sides.iter().zip(times) {
        let each = time / (count / TURNS) as u32;
        let ratio = time.as_secs_f64() / times[0].as_secs_f64();
        println!("  {name:16} {:8.0} /s  {:7.1} µs  {ratio:.2}", 1.0 / each.as_secs_f64(), each.as_secs_f64() * 1e6);
    }
    Ok(())
}

fn run(spawn: Spawn<'_>) {
    let child = spawn.run().expect("spawn");
    let exit = process::wait(child.pidfd.as_fd()).expect("wait");
    assert_eq!(exit.status, Status::Exited(0));
}

/// The limit: nothing but clone, execve and wait4.
fn raw(program: &CStr) {
    thread_local!(static STACK: Box<[u128]> = vec![0; STACK_BYTES / 16].into());
    extern "C" fn child(program: *mut c_void) -> c_int {
        let program = program.cast::<c_char>();
        let (argv, envp) = ([program.cast_const(), std::ptr::null()], [std::ptr::null::<c_char>()]);
        // SAFETY: the program is a C string, the arrays end with null; nothing else happens in the child.
        unsafe {
            libc::execve(program, argv.as_ptr(), envp.as_ptr());
            libc::_exit(127)
        }
    }
    STACK.with(|stack| {
        let mut status = 0;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child uses the stack only until it executes, which is how long we are suspended.
        let pid = unsafe {
            let top = stack.as_ptr().add(stack.len()).cast_mut().cast();
            let pid = libc::clone(child, top, flags, program.as_ptr().cast_mut().cast());
            libc::wait4(pid, &raw mut status, 0, std::ptr::null_mut());
            pid
        };
        assert!(pid > 0 && status == 0);
    });
}

/// Writes a static ELF program that only exits with 0; None where we do not know the instructions.
fn noop() -> std::io::Result<Option<CString>> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(None);
    }
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 231 (exit_group); xor edi, edi; syscall
    let code = [0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend([BASE + HEADERS, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([0_u16, 0, 64, 56, 1, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([1_u32, 5].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([0, BASE, BASE, size, size, 4096].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(code);
    let path = std::env::temp_dir().join(format!("nexusflow-noop-{:x}", nexusflow_sys::file::random()?));
    nexusflow_sys::file::atomic_write(&path, &elf, 0o755, false)?;
    Ok(Some(CString::new(path.into_os_string().into_vec())?))
}
