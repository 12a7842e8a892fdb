//! The smallest program there is: static, without a library, it only exits. What is left is the price of a process.

use std::path::{Path, PathBuf};

use crate::step::{Program, Result};

#[cfg(target_arch = "x86_64")]
const ASSEMBLY: &str = ".globl _start\n_start:\n mov $231, %eax\n xor %edi, %edi\n syscall\n";
#[cfg(target_arch = "aarch64")]
const ASSEMBLY: &str = ".globl _start\n_start:\n mov x8, #94\n mov x0, #0\n svc #0\n";

/// Builds it and gives its path.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("noop.s"), folder.join("noop"));
    std::fs::write(&source, ASSEMBLY).map_err(|e| format!("{}: {e}", source.display()))?;
    let link = ["-nostdlib", "-static", "-s", "-Wl,--build-id=none,-z,noseparate-code,-z,norelro", "-o"];
    Program::new("cc").args(link).arg(&program).arg(&source).done()?;
    Ok(program)
}
