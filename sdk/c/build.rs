//! Gives the shared library the name under which programs look for it: the first number changes when they must be
//! compiled again.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnexusflow.so.0");
    println!("cargo:rerun-if-changed=build.rs");
}
