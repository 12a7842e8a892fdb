//! What is made from the table of the file format is committed as it is made. `UPDATE=1` writes it anew.

use std::path::Path;

use nexusflow::spec;

fn committed(path: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{} is out of date: run this test with UPDATE=1", path.display());
}

#[test]
fn the_schema_is_up_to_date() {
    committed("schemas/pipeline.v1.schema.json", &format!("{:#}\n", spec::schema()));
}

#[test]
fn the_reference_is_up_to_date() {
    committed("docs/pipeline.md", &spec::reference());
}
