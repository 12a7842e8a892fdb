//! Who waits for whom: dependencies resolved, and every way in which waiting would never end.

use super::bindings::Ends;
use super::edges::{Resolved, twice};
use super::graph::Graph;
use super::names::Names;
use super::words::to_do;
use super::{EdgeId, GangId, StageId};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{self, Condition, Spec};

/// A long circle shows this many of its stages.
const SHOWN: usize = 8;

/// One dependency, with where it is said.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub stage: StageId,
    pub on: StageId,
    pub said: &'a spec::Dependency,
}

/// All dependencies whose stage exists, by stage in the order of the file.
pub(super) fn resolve<'a>(spec: &'a Spec, stages: &Names<'_>, found: &mut Diagnostics) -> Vec<Wait<'a>> {
    let mut waits = Vec::with_capacity(spec.stages.iter().map(|s| s.depends_on.len()).sum());
    for (id, stage) in spec.stages.iter().enumerate().filter(|(_, s)| !s.depends_on.is_empty()) {
        let place = format!("in `depends_on` of stage `{}`", stage.name.value);
        if stage.depends_on.len() > 1 {
            let names: Vec<_> = stage.depends_on.iter().map(|d| d.stage.clone()).collect();
            twice(&names, &place, found);
        }
        for said in &stage.depends_on {
            if let Some(on) = stages.resolve(&said.stage, &place, found) {
                waits.push(Wait { stage: StageId(id as u32), on: StageId(on), said });
            }
        }
    }
    waits
}

/// What the checks below look at.
pub(super) struct Waiting<'a> {
    pub spec: &'a Spec,
    pub edges: &'a [Resolved],
    pub ends: &'a [Ends],
    pub waits: &'a [Wait<'a>],
    pub gang_of: &'a [GangId],
    pub gangs: usize,
    /// For each stage that is a service: the edge that makes it one, unless the file says so itself.
    pub services: &'a [Option<Service>],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Declared,
    FedBy(EdgeId),
}

impl Waiting<'_> {
    pub fn check(&self, found: &mut Diagnostics) {
        for wait in self.waits.iter().filter(|w| w.said.condition != Condition::Started && w.stage != w.on) {
            if self.gang(wait.stage) == self.gang(wait.on) {
                found.push(self.waits_for_mate(wait));
            } else if let Some(service) = self.services[wait.on.0 as usize] {
                found.push(self.waits_for_service(wait, service));
            }
        }
        self.stage_cycles(found);
        self.gang_cycles(found);
    }

    fn name(&self, stage: StageId) -> &str {
        &self.spec.stages[stage.0 as usize].name.value
    }

    fn gang(&self, stage: StageId) -> GangId {
        self.gang_of[stage.0 as usize]
    }

    /// `a` waits for `b` to complete.
    fn told(&self, wait: &Wait<'_>) -> String {
        let does = to_do(wait.said.condition);
        format!("`{}` waits for `{}` to {does}", self.name(wait.stage), self.name(wait.on))
    }

    fn waits_for_mate(&self, wait: &Wait<'_>) -> Diagnostic {
        let edges = |stage: StageId| &self.ends[stage.0 as usize];
        let (few, many) = (edges(wait.stage), edges(wait.on));
        let (few, many) = if few.count() <= many.count() { (few, many) } else { (many, few) };
        let own = || few.inputs.iter().chain(&few.outputs);
        let joins = own().find(|e| many.inputs.binary_search(e).is_ok() || many.outputs.binary_search(e).is_ok());
        let edge = |id: &EdgeId| &self.edges[id.0 as usize].edge.span;
        let d = Diagnostic::error(codes::WAITS_FOR_MATE, format!("{}, which starts together with it", self.told(wait)))
            .at(&wait.said.span, "would never hold");
        let d = match (joins, own().next()) {
            (Some(id), _) => d.at(edge(id), "this edge ties the two together"),
            (None, Some(id)) => d.at(edge(id), "this edge and others tie the two together"),
            (None, None) => d,
        };
        d.note("stages that edges tie together start together; a reader sees the end of its input when its writers have ended")
            .help("remove the dependency, or make its condition `started`")
    }

    fn waits_for_service(&self, wait: &Wait<'_>, service: Service) -> Diagnostic {
        let stage = &self.spec.stages[wait.on.0 as usize];
        let d = Diagnostic::error(codes::WAITS_FOR_SERVICE, format!("{}, but that is a service", self.told(wait)))
            .at(&wait.said.span, "would never hold");
        let d = match (service, &stage.service) {
            (Service::FedBy(edge), _) => d.at(
                &self.edges[edge.0 as usize].edge.span,
                "a service writes this edge, so its readers are services too",
            ),
            (Service::Declared, Some(said)) => d.at(&said.span, "a service ends only when it is stopped"),
            (Service::Declared, None) => d,
        };
        d.help(format!("wait for it to have started: `depends_on: {{ {}: started }}`", stage.name.value))
    }

    /// Stages that wait for one another.
    fn stage_cycles(&self, found: &mut Diagnostics) {
        let arcs: Vec<_> = self.waits.iter().map(|w| (w.stage.0, w.on.0)).collect();
        let graph = Graph::new(self.spec.stages.len(), &arcs);
        for cycle in graph.cycles() {
            let cycle: Vec<_> = cycle.iter().map(|&arc| &self.waits[arc as usize]).collect();
            let d = if let [own] = cycle[..] {
                Diagnostic::error(codes::CYCLE, format!("stage `{}` waits for itself", self.name(own.stage)))
            } else {
                let path = self.path(&cycle);
                Diagnostic::error(codes::CYCLE, format!("stages wait for one another in a circle: {path}"))
            };
            found.push(self.labelled(d, &cycle).help(match cycle.len() {
                1 => "remove this dependency",
                _ => "remove one of these dependencies",
            }));
        }
    }

    /// Gangs that wait for one another, where the stages alone would not.
    fn gang_cycles(&self, found: &mut Diagnostics) {
        let between: Vec<_> = self.waits.iter().filter(|w| self.gang(w.stage) != self.gang(w.on)).collect();
        let arcs: Vec<_> = between.iter().map(|w| (self.gang(w.stage).0, self.gang(w.on).0)).collect();
        let graph = Graph::new(self.gangs, &arcs);
        for cycle in graph.cycles() {
            let cycle: Vec<_> = cycle.iter().map(|&arc| between[arc as usize]).collect();
            if cycle.iter().zip(cycle.iter().cycle().skip(1)).all(|(a, b)| a.on == b.stage) {
                continue; // Told as a circle of stages.
            }
            let path = self.path(&cycle);
            let d = Diagnostic::error(codes::GANG_CYCLE, format!("gangs wait for one another in a circle: {path}"));
            found.push(
                self.labelled(d, &cycle)
                    .note("`⇄` joins stages that edges tie together: they start together, once everything that any of them waits for holds")
                    .help("remove one of these dependencies, or hand the data over in a file instead of an edge"),
            );
        }
    }

    /// `a → b → c → a`; between mates of one gang `⇄`.
    fn path(&self, cycle: &[&Wait<'_>]) -> String {
        let mut path = self.name(cycle[0].stage).to_string();
        for (i, wait) in cycle.iter().enumerate() {
            if cycle.len() > SHOWN && i == SHOWN - 1 {
                path += &format!(" → … ({} more)", cycle.len() - SHOWN);
            }
            if cycle.len() > SHOWN && (SHOWN - 1..cycle.len() - 1).contains(&i) {
                continue;
            }
            path += &format!(" → {}", self.name(wait.on));
            let next = cycle[(i + 1) % cycle.len()].stage;
            if next != wait.on {
                path += &format!(" ⇄ {}", self.name(next));
            }
        }
        path
    }

    fn labelled(&self, d: Diagnostic, cycle: &[&Wait<'_>]) -> Diagnostic {
        let d = cycle.iter().take(SHOWN).fold(d, |d, w| d.at(&w.said.span, self.told(w)));
        if cycle.len() > SHOWN { d.note(format!("the circle has {} dependencies", cycle.len())) } else { d }
    }
}

/// Which stages are services: declared, or fed by one through edges.
pub(super) fn services(
    spec: &Spec,
    edges: &[Resolved],
    ends: &[Ends],
    found: &mut Diagnostics,
) -> Vec<Option<Service>> {
    let declared = |stage: &spec::Stage| stage.service.as_ref().is_some_and(|s| s.value);
    let mut services: Vec<_> = spec.stages.iter().map(|s| declared(s).then_some(Service::Declared)).collect();
    let mut queue: Vec<_> = (0..services.len()).filter(|&s| services[s].is_some()).collect();
    let mut passed = vec![false; edges.len()];
    while let Some(stage) = queue.pop() {
        for &edge in &ends[stage].outputs {
            if std::mem::replace(&mut passed[edge.0 as usize], true) {
                continue;
            }
            for reader in edges[edge.0 as usize].edge.to.iter().map(|s| s.0 as usize) {
                if services[reader].is_none() {
                    services[reader] = Some(Service::FedBy(edge));
                    queue.push(reader);
                }
            }
        }
    }
    for (stage, service) in spec.stages.iter().zip(&services) {
        if let (Some(said), Some(Service::FedBy(edge))) = (&stage.service, service) {
            let edge = &edges[edge.0 as usize].edge;
            found.push(
                Diagnostic::error(
                    codes::FED_BY_SERVICE,
                    format!("stage `{}` reads from a service, so it is one too", stage.name.value),
                )
                .at(&said.span, "says that it is not")
                .at(&edge.span, "a service writes this edge")
                .help("leave `service` out"),
            );
        }
    }
    services
}

/// Edges that lead back to where they began: allowed, and said.
pub(super) fn edge_cycles(spec: &Spec, edges: &[Resolved], found: &mut Diagnostics) {
    // An edge is a node of its own, so that many writers and many readers need no arc for each pair.
    let stages = spec.stages.len() as u32;
    let of = |i: usize| stages + i as u32;
    let arcs: Vec<_> = edges
        .iter()
        .enumerate()
        .flat_map(|(i, r)| {
            let into = r.edge.from.iter().map(move |s| (s.0, of(i)));
            into.chain(r.edge.to.iter().map(move |s| (of(i), s.0)))
        })
        .collect();
    for cycle in Graph::new(spec.stages.len() + edges.len(), &arcs).cycles() {
        // Arcs alternate: stage to edge, edge to stage. An edge to oneself was told.
        let steps: Vec<_> = cycle.iter().map(|&a| arcs[a as usize]).filter(|a| a.1 >= stages).collect();
        if steps.len() < 2 {
            continue;
        }
        let name = |(stage, _): &(u32, u32)| spec.stages[*stage as usize].name.value.as_str();
        let mut path: Vec<_> = steps.iter().take(SHOWN).map(name).collect();
        path.extend((steps.len() > SHOWN).then_some("…"));
        path.push(name(&steps[0]));
        let d = Diagnostic::warning(codes::EDGE_CYCLE, format!("edges lead in a circle: {}", path.join(" → ")));
        let labels = steps.iter().zip(steps.iter().cycle().skip(1)).take(SHOWN);
        let d = labels.fold(d, |d, (step, next)| {
            let edge = &edges[(step.1 - stages) as usize].edge;
            d.at(&edge.span, format!("from `{}` to `{}`", name(step), name(next)))
        });
        found.push(
            d.note("when all of them are full nobody reads, and no stage sees the end of its input")
                .help("make sure that what goes round shrinks, and that a message says when to stop"),
        );
    }
}
