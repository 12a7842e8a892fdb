//! How a stage takes hold of its edges: `stdin`, `stdout`, `bind` and `${edge.NAME}`.

use std::collections::{BTreeMap, HashSet};

use super::edges::{Resolved, replicas};
use super::names::Names;
use super::{Bind, Direction, EdgeId, StageId, Stdin, Stdout};
use crate::diag::{Diagnostic, Diagnostics, Span, codes};
use crate::spec::{self, By, Command, Delivery, Framing, Kind, Piece, Spanned, Spec, Stream, Text};

/// The edges of one stage, sorted by their number.
#[derive(Default, Clone)]
pub(super) struct Ends {
    pub outputs: Vec<EdgeId>,
    pub inputs: Vec<EdgeId>,
}

impl Ends {
    pub fn count(&self) -> usize {
        self.inputs.len() + self.outputs.len()
    }
}

/// What a stage's `stdin`, `stdout` and `bind` mean.
pub(super) struct Bindings {
    pub stdin: Stdin,
    pub stdout: Stdout,
    pub bind: Vec<Bind>,
}

pub(super) struct Binder<'a> {
    pub spec: &'a Spec,
    pub names: &'a Names<'a>,
    pub edges: &'a [Resolved],
    /// What stages have under `bind`: stage and edge.
    bound: HashSet<(&'a str, &'a str)>,
}

impl<'a> Binder<'a> {
    pub fn new(spec: &'a Spec, names: &'a Names<'a>, edges: &'a [Resolved]) -> Self {
        let of =
            |stage: &'a spec::Stage| stage.bind.iter().map(move |b| (stage.name.value.as_str(), b.edge.value.as_str()));
        Self { spec, names, edges, bound: spec.stages.iter().flat_map(of).collect() }
    }

    fn binds(&self, stage: &spec::Stage, edge: &str) -> bool {
        self.bound.contains(&(stage.name.value.as_str(), edge))
    }

    pub fn stage(&self, id: StageId, ends: &Ends, found: &mut Diagnostics) -> Bindings {
        let stage = &self.spec.stages[id.0 as usize];
        let mut take = |edge: &Spanned<String>, framing, key: &str| self.edge(stage, ends, edge, framing, key, found);
        let stdin = match stage.stdin.as_ref().map(|s| &s.value) {
            None => Stdin::Null,
            Some(Stream::File(path)) => Stdin::File(path.clone()),
            Some(Stream::Edge { edge, framing }) => {
                take(edge, *framing, "stdin").map_or(Stdin::Null, |(edge, _)| Stdin::Edge { edge, framing: *framing })
            }
        };
        let stdout = match stage.stdout.as_ref().map(|s| &s.value) {
            None => Stdout::Log,
            Some(Stream::File(path)) => Stdout::File(path.clone()),
            Some(Stream::Edge { edge, framing }) => {
                take(edge, *framing, "stdout").map_or(Stdout::Log, |(edge, _)| Stdout::Edge { edge, framing: *framing })
            }
        };
        let bind = stage.bind.iter().filter_map(|b| {
            let (edge, direction) = take(&b.edge, b.framing, "bind")?;
            Some(Bind { edge, framing: b.framing, direction })
        });
        let bind = bind.collect();
        self.paths(stage, found);
        Bindings { stdin, stdout, bind }
    }

    /// One use of an edge under `key`. Errors that leave the edge usable for further checks still give it.
    fn edge(
        &self,
        stage: &spec::Stage,
        ends: &Ends,
        edge: &Spanned<String>,
        framing: Framing,
        key: &str,
        found: &mut Diagnostics,
    ) -> Option<(EdgeId, Direction)> {
        let place = format!("in `{key}` of stage `{}`", stage.name.value);
        let id = EdgeId(self.names.resolve(edge, &place, found)?);
        let Resolved { edge: resolved, whole } = &self.edges[id.0 as usize];
        let reads = ends.inputs.binary_search(&id).is_ok();
        let writes = ends.outputs.binary_search(&id).is_ok();
        let fits = match key {
            "stdin" => reads,
            "stdout" => writes,
            _ => reads || writes,
        };
        if !fits {
            if *whole {
                found.push(wrong_direction(stage, edge, &resolved.span, key, reads || writes));
            }
            return None;
        }
        if resolved.kind == Kind::Pipe && key == "bind" {
            let stream = if reads { "stdin" } else { "stdout" };
            found.push(
                Diagnostic::error(
                    codes::PIPE_NOT_BOUND,
                    format!("pipe edge `{}` cannot be given as a path", edge.value),
                )
                .at(&edge.span, "bound as a path")
                .at(&self.spec.edges[id.0 as usize].kind.span, "a kernel pipe")
                .help(format!("bind it as `{stream}: {{ edge: {}, framing: raw }}`, or use `kind: ring`", edge.value)),
            );
            return None;
        }
        if resolved.kind == Kind::Ring && framing == Framing::Raw && *whole {
            self.raw(id, edge, found);
        }
        if writes && resolved.delivery == Delivery::Distribute && resolved.by == By::Key {
            let message = format!("stage `{}` cannot say the keys of edge `{}`", stage.name.value, edge.value);
            found.push(
                Diagnostic::error(codes::KEY_OF_NONE, message)
                    .at(&edge.span, format!("bound under `{key}`: what comes from there has no key"))
                    .at(&self.spec.edges[id.0 as usize].by.span, "each message goes where its key says")
                    .help("say `by: round_robin` or `by: least_backlog`, or write the stage with the SDK: `send_to(key, message)`"),
            );
        }
        Some((id, if reads { Direction::Input } else { Direction::Output }))
    }

    fn raw(&self, id: EdgeId, bound: &Spanned<String>, found: &mut Diagnostics) {
        let Resolved { edge, .. } = &self.edges[id.0 as usize];
        let spec = &self.spec.edges[id.0 as usize];
        let producers = replicas(self.spec, &edge.from);
        let d = Diagnostic::error(
            codes::RAW_NEEDS_ONE_PRODUCER,
            format!("`framing: raw` does not fit edge `{}`", edge.name),
        )
        .at(&bound.span, "any piece of a byte stream");
        let d = if producers > 1 {
            d.at(&edge.span, format!("{producers} producers, whose pieces would be mixed"))
        } else if edge.delivery == Delivery::Distribute {
            d.at(&spec.delivery.span, "each consumer would see some of the pieces")
        } else {
            return;
        };
        found.push(d.help("use `framing: lines` or `framing: u32le`, whose messages stay whole"));
    }

    /// `${edge.NAME}` wherever it may and may not stand.
    fn paths(&self, stage: &spec::Stage, found: &mut Diagnostics) {
        match &stage.command.value {
            Command::Argv(words) => words.iter().for_each(|word| self.path(stage, &word.value, &word.span, found)),
            Command::Shell { run, .. } if run.contains("${edge.") => found.push(
                Diagnostic::warning(codes::EDGE_PATH, "in `shell` text every `$` belongs to the shell")
                    .at(&stage.command.span, "`${edge.…}` is not filled in here")
                    .help("pass the path in a variable: `env: { LEFT: \"${edge.left}\" }`, then write \"$LEFT\""),
            ),
            Command::Shell { .. } => {}
        }
        stage.env.values().for_each(|v| self.path(stage, &v.value, &v.span, found));
    }

    /// A pipe edge is the writer's `stdout` and the reader's `stdin`.
    pub fn pipes(&self, found: &mut Diagnostics) {
        let (spec, edges) = (self.spec, self.edges);
        let pipes = edges.iter().zip(&spec.edges).filter(|(r, _)| r.whole && r.edge.kind == Kind::Pipe);
        for (Resolved { edge, .. }, declared) in pipes {
            for (ends, key, does) in [(&edge.from, "stdout", "writes"), (&edge.to, "stdin", "reads")] {
                for stage in ends.iter().map(|s| &spec.stages[s.0 as usize]) {
                    let stream = if key == "stdin" { &stage.stdin } else { &stage.stdout };
                    let bound = stream
                        .as_ref()
                        .is_some_and(|s| matches!(&s.value, Stream::Edge { edge: e, .. } if e.value == edge.name));
                    if bound || self.binds(stage, &edge.name) {
                        continue;
                    }
                    let name = &stage.name.value;
                    found.push(
                        Diagnostic::error(
                            codes::PIPE_NOT_BOUND,
                            format!("pipe edge `{}` is not the `{key}` of stage `{name}`", edge.name),
                        )
                        .at(&stage.name.span, format!("{does} the pipe, but has no `{key}` for it"))
                        .at(&declared.kind.span, "a kernel pipe")
                        .help(format!("say `{key}: {{ edge: {}, framing: raw }}` in stage `{name}`", edge.name)),
                    );
                }
            }
        }
    }

    fn path(&self, stage: &spec::Stage, text: &Text, span: &Span, found: &mut Diagnostics) {
        for name in edge_names(text) {
            if self.binds(stage, name) {
                continue;
            }
            let d = Diagnostic::error(
                codes::EDGE_PATH,
                format!("stage `{}` uses `${{edge.{name}}}` without binding edge `{name}`", stage.name.value),
            )
            .at(span, "this path would not exist")
            .at(&stage.name.span, if stage.bind.is_empty() { "has no `bind`" } else { "does not bind it" });
            found.push(match (self.names.get(name), self.names.near(name)) {
                (None, Some(near)) => d.help(format!("did you mean `${{edge.{near}}}`?")),
                (None, None) => d.help(format!("there is no edge `{name}`: declare it under `edges:` and bind it")),
                (Some(_), _) => d.help(format!("bind it: `bind: {{ {name}: lines }}`")),
            });
        }
    }
}

/// In the pipeline's `env` an edge's path has no meaning: each stage has its own.
pub(super) fn common_env(env: &BTreeMap<String, Spanned<Text>>, found: &mut Diagnostics) {
    for text in env.values() {
        for name in edge_names(&text.value) {
            found.push(
                Diagnostic::error(
                    codes::EDGE_PATH,
                    format!("`${{edge.{name}}}` has no meaning in the environment of every stage"),
                )
                .at(&text.span, "an edge's path exists in the process that binds it")
                .help("use it in the stage's own `command` or `env`"),
            );
        }
    }
}

fn edge_names(text: &Text) -> impl Iterator<Item = &str> {
    text.pieces.iter().filter_map(|piece| match piece {
        Piece::Edge(name) => Some(name.as_str()),
        _ => None,
    })
}

fn wrong_direction(
    stage: &spec::Stage,
    edge: &Spanned<String>,
    declared: &Span,
    key: &str,
    swapped: bool,
) -> Diagnostic {
    let (name, of) = (&edge.value, &stage.name.value);
    let (message, end) = match key {
        "stdin" => (format!("stage `{of}` does not read edge `{name}`"), "to"),
        "stdout" => (format!("stage `{of}` does not write edge `{name}`"), "from"),
        _ => (format!("stage `{of}` is at neither end of edge `{name}`"), "from` or `to"),
    };
    let declares = if swapped && key == "stdin" {
        format!("`{of}` is in its `from`")
    } else if swapped {
        format!("`{of}` is in its `to`")
    } else {
        format!("`{of}` is in neither its `from` nor its `to`")
    };
    let d = Diagnostic::error(codes::WRONG_DIRECTION, message)
        .at(&edge.span, format!("bound as `{key}`"))
        .at(declared, declares);
    if swapped {
        let other = if key == "stdin" { "stdout" } else { "stdin" };
        d.help(format!("swap `from` and `to` of `{name}`, or bind it as `{other}`"))
    } else {
        d.help(format!("add `{of}` to `{end}` of edge `{name}`"))
    }
}
