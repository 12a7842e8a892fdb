//! The committed header is the one that the sources make. `UPDATE=1` writes it.

use std::path::Path;

#[test]
fn nexusflow_h_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::Builder::new().with_crate(folder).with_config(config).generate().unwrap().write(&mut made);
    // The heading is rustdoc's; what stands under it is the contract with C.
    let made = String::from_utf8(made).unwrap().replace("# Safety\n * ", "Contract: ");
    let path = folder.join("nexusflow.h");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "sdk/c/nexusflow.h is old: make it with UPDATE=1 cargo test -p nexusflow-c");
}
