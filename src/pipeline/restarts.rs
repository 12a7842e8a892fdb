//! Restarts: what may be started again, and with whom.

use super::Restart;
use super::edges::{DEFAULT_REDELIVER, Resolved};
use super::waits::Service;
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::units::show_size as size;
use crate::spec::{self, Kind, OnFull, Scope, Spanned, Spec, Stream, When};

/// The capacity of which the ring, a quarter of it, has room for twice the default of `redeliver`.
const ROOM_TO_REDELIVER: u64 = 8 * DEFAULT_REDELIVER;

pub(super) fn resolve(restart: &spec::Restart) -> Restart {
    Restart {
        when: restart.when.value,
        limit: restart.limit,
        window: restart.window,
        backoff: restart.backoff,
        backoff_max: restart.backoff_max,
        scope: restart.scope.as_ref().map(|s| s.value).unwrap_or_default(),
    }
}

pub(super) fn check(spec: &Spec, edges: &[Resolved], services: &[Option<Service>], found: &mut Diagnostics) {
    for (stage, service) in spec.stages.iter().zip(services) {
        let Some(restart) = &stage.restart else { continue };
        if restart.when.value == When::Always && service.is_none() {
            found.push(
                Diagnostic::error(codes::RESTART_ALWAYS, format!("stage `{}` would never complete", stage.name.value))
                    .at(&restart.when.span, "started again also when it ends well")
                    .help("make it a service (`service: true`), or write `when: on_failure`"),
            );
        }
        scope(spec, stage, restart, edges, found);
    }
}

/// What knows nothing of edges has to say what its restart restarts.
fn scope(spec: &Spec, stage: &spec::Stage, restart: &spec::Restart, edges: &[Resolved], found: &mut Diagnostics) {
    let streams = [&stage.stdin, &stage.stdout].into_iter().flatten();
    let bound = streams.filter_map(|s| match &s.value {
        Stream::Edge { edge, .. } => Some(edge),
        Stream::File(_) => None,
    });
    let bound: Vec<_> = bound.chain(stage.bind.iter().map(|b| &b.edge)).collect();
    let Some(first) = bound.first() else { return };
    let name = &stage.name.value;
    let is_pipe = |edge: &str| edges.iter().any(|r| r.edge.kind == Kind::Pipe && r.edge.name == edge);
    let pipe = bound.iter().find(|edge| is_pipe(&edge.value));
    found.push(match (&restart.scope, pipe) {
        (None, None) => Diagnostic::error(
            codes::RESTART_SCOPE,
            format!("stage `{name}` does not say what its restart restarts"),
        )
        .at(&restart.span, "`scope` is missing")
        .at(&first.span, "a program that does not use this edge itself")
        .help("`scope: gang` if all that edges tie to it can begin anew; `scope: stage` if it can go on in the middle of a stream"),
        (Some(said), Some(pipe)) if said.value == Scope::Stage => Diagnostic::error(
            codes::RESTART_SCOPE,
            format!("stage `{name}` cannot be restarted alone"),
        )
        .at(&said.span, "only this process")
        .at(&pipe.span, "a kernel pipe, which breaks when one of its sides ends")
        .help("write `scope: gang`, or make the edge `kind: ring`"),
        (None, Some(pipe)) => Diagnostic::error(
            codes::RESTART_SCOPE,
            format!("stage `{name}` does not say what its restart restarts"),
        )
        .at(&restart.span, "`scope` is missing")
        .at(&pipe.span, "a kernel pipe, which breaks when one of its sides ends")
        .help("write `scope: gang`"),
        (Some(said), _) if said.value == Scope::Stage => return room_to_redeliver(spec, stage, &bound, found),
        (Some(_), _) => return,
    });
}

/// What a killed program had been given and perhaps not read must still be in the edge. How much that is its file may say;
/// where it does not, there has to be room for the default.
fn room_to_redeliver(spec: &Spec, stage: &spec::Stage, bound: &[&Spanned<String>], found: &mut Diagnostics) {
    let name = &stage.name.value;
    let reads = |edge: &&spec::Edge| {
        bound.iter().any(|b| b.value == edge.name.value) && edge.to.iter().any(|to| to.value == *name)
    };
    let may_lose = |edge: &&spec::Edge| {
        edge.kind.value == Kind::Ring
            && edge.on_full == OnFull::Block
            && edge.redeliver.is_none()
            && edge.capacity.value < ROOM_TO_REDELIVER
    };
    for edge in spec.edges.iter().filter(reads).filter(may_lose) {
        let (least, default) = (size(ROOM_TO_REDELIVER), size(DEFAULT_REDELIVER));
        found.push(
            Diagnostic::error(
                codes::REDELIVER_ROOM,
                format!("edge `{}` cannot keep what a restarted `{name}` must be given again", edge.name.value),
            )
            .at(&edge.capacity.span, format!("less than {least}"))
            .note(format!(
                "a pipe and a program's read-ahead hold up to {default}, which a program that is killed takes along"
            ))
            .help(format!("raise `capacity` to {least}, or say with `redeliver` how much is enough for this program")),
        );
    }
}
