//! The pipelines that come with nexusflow say what they mean to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexusflow::diag::{self, Diagnostics};
use nexusflow::document::{self, Format};
use nexusflow::pipeline::{self, Pipeline};
use nexusflow::spec::{self, Inputs};

fn build(name: &str) -> Pipeline {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "pipelines", name].iter().collect();
    let mut found = Diagnostics::default();
    let source = document::source_from_bytes(name, std::fs::read(&path).unwrap(), &mut found);
    let inputs = Inputs { set: &BTreeMap::new(), env: &|_| None, strict: true };
    let pipeline = source
        .and_then(|source| document::parse(&source, Format::from_path(&path)?, &mut found))
        .and_then(|node| spec::read(&node, &inputs, &mut found))
        .and_then(|spec| pipeline::build(&spec, Path::new("/pipelines"), &mut found));
    assert!(found.list.is_empty(), "{}", diag::render(&found.list, diag::Format::Human { color: false }));
    pipeline.expect("no mistake, so a pipeline")
}

#[test]
fn duplicates() {
    let p = build("duplicates.yaml");
    let replicas: Vec<_> = p.stages.iter().map(|s| (s.name.as_str(), s.replicas)).collect();
    assert_eq!(replicas, [("walk", 1), ("hash", 4), ("report", 1)]);
    assert!(p.stages.iter().all(|s| s.placement.is_some()));
    assert_eq!(p.gangs.len(), 1);
}

#[test]
fn wordcount() {
    let p = build("wordcount.toml");
    assert_eq!(p.gangs.len(), 1);
    let kinds: Vec<_> = p.edges.iter().map(|e| e.kind).collect();
    assert_eq!(kinds.iter().filter(|k| **k == spec::Kind::Pipe).count(), 3);
    assert_eq!(kinds.iter().filter(|k| **k == spec::Kind::Ring).count(), 3);
}

#[test]
fn build_is_thirty_stages_without_edges() {
    let p = build("build.yaml");
    assert_eq!((p.stages.len(), p.edges.len(), p.gangs.len()), (30, 0, 30));
    let waiting = |on: &str| {
        let id = p.stage_ids().find(|id| p.stage(*id).name == on).unwrap();
        p.stages.iter().filter(|s| s.depends_on.iter().any(|d| d.stage == id)).count()
    };
    assert_eq!((waiting("configure"), waiting("link"), waiting("test")), (26, 1, 1));
}
