//! The decider under a simulated world: random pipelines, random histories, invariants after every step.
//! A failing seed is a reproducer: `SEED=n cargo test --lib run::`; `SEEDS=100000` takes a longer look.

mod again;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Action, Cause, Ending, Event, Exit, Outcome, State};
use crate::diag::{Source, Span};
use crate::pipeline::{Dependency, Edge, EdgeId, GangId, Pipeline, Restart, Stage, StageId, Stdin, Stdout};
use crate::plan::{MemoryPolicy, Plan, Task, TaskId};
use crate::spec::{
    By, Command, Condition, Delivery, EnvInherit, Kind, OnFailure, OnFull, Scheduling, Scope, Signal, Wait, When,
};

/// xorshift64*: reproducible everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }

    fn percent(&mut self, p: usize) -> bool {
        self.below(100) < p
    }
}

fn span() -> Span {
    Span { source: Arc::new(Source { name: "test".into(), text: String::new() }), range: 0..0 }
}

fn stage(name: String) -> Stage {
    Stage {
        name,
        span: span(),
        gang: GangId(0),
        command: Command::Argv(vec![]),
        command_span: span(),
        env: BTreeMap::new(),
        cwd: None,
        cwd_span: None,
        user: None,
        user_span: None,
        replicas: 1,
        service: false,
        depends_on: vec![],
        timeout: None,
        restart: None,
        stop_signal: Signal(15),
        stop_timeout: Duration::from_secs(10),
        placement: None,
        scheduling: Scheduling::default(),
        stdin: Stdin::Null,
        stdout: Stdout::Log,
        bind: vec![],
        outputs: vec![],
        inputs: vec![],
    }
}

/// Stages by name, `a>b` for a ring edge, `c:a` for "c waits for a to complete", `c:a!` started, `c:a?` exited.
fn pipeline(stages: &[&str], links: &[&str]) -> Pipeline {
    let mut list: Vec<Stage> = stages.iter().map(|n| stage((*n).into())).collect();
    let id = |name: &str| StageId(stages.iter().position(|s| *s == name).expect("a stage of the test") as u32);
    let mut edges = vec![];
    for link in links {
        if let Some((from, to)) = link.split_once('>') {
            edges.push((id(from), id(to)));
        } else if let Some((who, on)) = link.split_once(':') {
            let condition = match on.chars().last() {
                Some('!') => Condition::Started,
                Some('?') => Condition::Exited,
                _ => Condition::Completed,
            };
            let on = id(on.trim_end_matches(['!', '?']));
            list[id(who).0 as usize].depends_on.push(Dependency { stage: on, condition });
        }
    }
    assemble(list, edges)
}

fn assemble(mut stages: Vec<Stage>, links: Vec<(StageId, StageId)>) -> Pipeline {
    let mut gang: Vec<usize> = (0..stages.len()).collect();
    for &(a, b) in &links {
        let (from, to) = (gang[a.0 as usize], gang[b.0 as usize]);
        gang.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
    }
    let names: BTreeSet<usize> = gang.iter().copied().collect();
    let gangs: Vec<Vec<StageId>> = names
        .iter()
        .map(|n| (0..stages.len()).filter(|&s| gang[s] == *n).map(|s| StageId(s as u32)).collect())
        .collect();
    for (g, members) in gangs.iter().enumerate() {
        for s in members {
            stages[s.0 as usize].gang = GangId(g as u32);
        }
    }
    let mut edges = vec![];
    for (at, &(from, to)) in links.iter().enumerate() {
        stages[from.0 as usize].outputs.push(EdgeId(at as u32));
        stages[to.0 as usize].inputs.push(EdgeId(at as u32));
        edges.push(Edge {
            name: format!("e{at}"),
            span: span(),
            kind: Kind::Ring,
            from: vec![from],
            to: vec![to],
            capacity: 1 << 20,
            max_message: 1 << 18,
            delivery: Delivery::Broadcast,
            by: By::RoundRobin,
            on_full: OnFull::Block,
            redeliver: 0,
            wait: Wait::Adaptive,
            sealed: false,
            memory: Default::default(),
            rate: None,
            messages: None,
        });
    }
    Pipeline {
        name: "test".into(),
        description: None,
        dir: "/".into(),
        vars: BTreeMap::new(),
        env_inherit: EnvInherit::All,
        timeout: None,
        parallel: Some(2),
        on_failure: OnFailure::Continue,
        stages,
        edges,
        gangs,
    }
}

fn plan(pipeline: &Pipeline) -> Plan {
    let task = |stage, replica| Task {
        stage,
        replica,
        cpus: [0].into_iter().collect(),
        pinned: false,
        nodes: Default::default(),
        memory: MemoryPolicy::Default,
        why: vec![],
        gave_up: vec![],
    };
    let tasks = pipeline.stage_ids().flat_map(|s| (0..pipeline.stage(s).replicas).map(move |r| task(s, r))).collect();
    Plan { tasks, edges: vec![], floating: [0].into_iter().collect(), usable: [0].into_iter().collect() }
}

/// A run that does exactly what the test says.
struct Script {
    state: State,
    now: Duration,
    said: Vec<Action>,
}

impl Script {
    fn new(pipeline: &Pipeline) -> Self {
        let mut script = Self { state: State::new(pipeline, &plan(pipeline)), now: Duration::ZERO, said: vec![] };
        script.event(Event::Begin);
        script
    }

    /// What follows from an event, when edges are made at once.
    fn event(&mut self, event: Event) -> &[Action] {
        self.said.clear();
        self.state.step(event, self.now, &mut self.said);
        let mut at = 0;
        while at < self.said.len() {
            if let Action::Prepare(gang) = self.said[at] {
                self.state.step(Event::Prepared(gang), self.now, &mut self.said);
            }
            at += 1;
        }
        &self.said
    }

    fn started(&mut self, tasks: &[u32]) -> &mut Self {
        for &t in tasks {
            self.event(Event::Started(TaskId(t)));
        }
        self
    }

    fn ended(&mut self, task: u32, code: i32) -> &[Action] {
        self.event(Event::Ended(TaskId(task), Exit::Code(code)))
    }
}

fn spawned(actions: &[Action]) -> Vec<u32> {
    actions.iter().filter_map(|a| if let Action::Spawn(t) = a { Some(t.0) } else { None }).collect()
}

#[test]
fn a_chain_runs_in_order() {
    let mut run = Script::new(&pipeline(&["a", "b"], &["b:a"]));
    assert_eq!(spawned(&run.said), [0]);
    run.started(&[0]);
    assert_eq!(spawned(run.ended(0, 0)), [1]);
    run.started(&[1]);
    assert_eq!(run.ended(1, 0).last(), Some(&Action::Finish(Ending::Succeeded)));
}

#[test]
fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    let mut run = Script::new(&pipeline(&["a", "b", "c", "d"], &["b:a", "c:b", "d:a?"]));
    run.started(&[0]);
    let said = run.ended(0, 3).to_vec();
    assert_eq!(spawned(&said), [3]);
    for skipped in [1, 2] {
        assert!(
            said.iter()
                .any(|a| matches!(a, Action::Settled(t, Outcome::Skipped(Cause::Dependency(_))) if t.0 == skipped))
        );
    }
    run.started(&[3]);
    assert_eq!(run.ended(3, 0).last(), Some(&Action::Finish(Ending::StageFailed)));
}

#[test]
fn a_gang_starts_together_and_its_edges_open_when_all_have_started() {
    let mut run = Script::new(&pipeline(&["a", "b", "c"], &["a>b", "b>c", "c:b!"]));
    assert_eq!(spawned(&run.said), [0, 1]);
    run.started(&[0]);
    assert_eq!(spawned(run.event(Event::Started(TaskId(1)))), [2]);
    assert!(run.event(Event::Started(TaskId(2))).contains(&Action::OpenEdges(GangId(0))));
}

#[test]
fn a_mate_that_cannot_start_takes_the_gang_along() {
    let mut run = Script::new(&pipeline(&["a", "b"], &["a>b"]));
    run.started(&[0]);
    assert!(run.event(Event::NotStarted(TaskId(1))).contains(&Action::Signal(TaskId(0), Signal(15))));
    let said = run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(15))));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::StageNotStarted)));
}

#[test]
fn who_writes_to_nobody_has_not_failed() {
    let mut run = Script::new(&pipeline(&["yes", "head"], &["yes>head"]));
    run.started(&[0, 1]);
    run.ended(1, 0);
    let said = run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(13))));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::Succeeded)));
    // The kernel may break a pipe before its reader's end is known.
    let mut p = pipeline(&["yes", "head"], &["yes>head"]);
    p.edges[0].kind = Kind::Pipe;
    for (code, ending) in [(0, Ending::Succeeded), (1, Ending::StageFailed)] {
        let mut run = Script::new(&p);
        run.started(&[0, 1]);
        assert_eq!(run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(13)))), []);
        assert_eq!(run.ended(1, code).last(), Some(&Action::Finish(ending)));
    }
    // But who still had a reader has.
    let mut run = Script::new(&pipeline(&["yes", "cat"], &["yes>cat"]));
    run.started(&[0, 1]);
    assert!(matches!(
        run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(13))))[1],
        Action::Settled(_, Outcome::Failed(_))
    ));
}

#[test]
fn services_end_when_nothing_else_is_left_feeders_first() {
    let mut p = pipeline(&["job", "source", "sink"], &["source>sink", "sink:source!"]);
    p.stages[1].service = true;
    p.stages[2].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1, 2]);
    let said = run.ended(0, 0).to_vec();
    assert!(said.contains(&Action::Signal(TaskId(1), Signal(15))), "{said:?}");
    assert!(!said.iter().any(|a| matches!(a, Action::Signal(TaskId(2), _))), "{said:?}");
    let said = run.event(Event::Ended(TaskId(1), Exit::Signal(Signal(15)))).to_vec();
    assert!(said.contains(&Action::Release(TaskId(1))), "what it fed reads its end of stream: {said:?}");
    assert_eq!(run.ended(2, 0).last(), Some(&Action::Finish(Ending::Succeeded)));
}

#[test]
fn a_fed_service_that_stays_is_asked_to_go_when_it_has_read_everything() {
    let mut p = pipeline(&["job", "server"], &["job>server"]);
    p.stages[1].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1]);
    assert!(spawned(run.ended(0, 0)).is_empty());
    let later = |run: &mut Script| {
        run.now += Duration::from_secs(10);
        run.event(Event::Tick).to_vec()
    };
    assert_eq!(later(&mut run), [Action::AskDrained(TaskId(1))]);
    run.event(Event::Drained(TaskId(1), false));
    assert_eq!(later(&mut run), [Action::AskDrained(TaskId(1))], "it still reads");
    run.event(Event::Drained(TaskId(1), true));
    assert_eq!(later(&mut run), [Action::Signal(TaskId(1), Signal(15))]);
}

#[test]
fn a_chain_of_broken_pipes_is_judged_to_its_beginning() {
    let mut p = pipeline(&["w", "r1", "r2"], &["w>r1", "r1>r2"]);
    p.edges.iter_mut().for_each(|e| e.kind = Kind::Pipe);
    let mut run = Script::new(&p);
    run.started(&[0, 1, 2]);
    run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(13))));
    run.event(Event::Ended(TaskId(1), Exit::Signal(Signal(13))));
    assert_eq!(run.ended(2, 0).last(), Some(&Action::Finish(Ending::Succeeded)));
}

#[test]
fn services_that_feed_one_another_in_a_circle_end_too() {
    let mut p = pipeline(&["job", "a", "b"], &["a>b", "b>a"]);
    p.stages[1].service = true;
    p.stages[2].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1, 2]);
    let said = run.ended(0, 0).to_vec();
    assert!([1, 2].iter().all(|&t| said.contains(&Action::Signal(TaskId(t), Signal(15)))), "{said:?}");
}

#[test]
fn services_that_are_still_starting_drain_all_the_same() {
    let mut p = pipeline(&["job", "source", "sink"], &["source>sink"]);
    p.stages[1].service = true;
    p.stages[2].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1]);
    assert!(!run.ended(0, 0).iter().any(|a| matches!(a, Action::Signal(..) | Action::Kill(_))), "{:?}", run.said);
    let said = run.event(Event::Started(TaskId(2))).to_vec();
    assert_eq!(said, [Action::OpenEdges(GangId(1)), Action::Signal(TaskId(1), Signal(15))]);
    run.event(Event::Ended(TaskId(1), Exit::Signal(Signal(15))));
    assert_eq!(run.ended(2, 0).last(), Some(&Action::Finish(Ending::Succeeded)));
}

#[test]
fn a_service_that_ends_by_itself_fails() {
    let mut p = pipeline(&["job", "db"], &[]);
    p.stages[1].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1]);
    run.ended(1, 0);
    assert_eq!(run.ended(0, 0).last(), Some(&Action::Finish(Ending::StageFailed)));
}

#[test]
fn an_interrupt_stops_dependants_first_and_a_second_kills() {
    let mut p = pipeline(&["db", "app"], &["app:db!"]);
    p.parallel = Some(4);
    let mut run = Script::new(&p);
    run.started(&[0, 1]);
    let said = run.event(Event::Interrupted(Signal(2))).to_vec();
    assert_eq!(said, [Action::Signal(TaskId(1), Signal(15))]);
    assert!(run.event(Event::Interrupted(Signal(2))).is_empty(), "the same request, heard twice");
    run.now = Duration::from_secs(1);
    let said = run.event(Event::Interrupted(Signal(2))).to_vec();
    assert!(said.contains(&Action::Kill(TaskId(0))) && said.contains(&Action::Kill(TaskId(1))));
    run.event(Event::Ended(TaskId(1), Exit::Signal(Signal(9))));
    let said = run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(9))));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::Interrupted(Signal(2)))));
}

#[test]
fn what_is_stopped_while_it_starts_gets_its_orderly_end() {
    let mut run = Script::new(&pipeline(&["a"], &[]));
    assert!(run.event(Event::Interrupted(Signal(15))).is_empty(), "nothing runs yet that could be told");
    assert_eq!(
        run.event(Event::Started(TaskId(0))).first(),
        Some(&Action::Signal(TaskId(0), Signal(15))),
        "its program may have begun long before we hear of it"
    );
    let mut run = Script::new(&pipeline(&["a"], &[]));
    run.event(Event::Interrupted(Signal(15)));
    run.now = Duration::from_secs(1);
    run.event(Event::Interrupted(Signal(15)));
    assert!(run.event(Event::Started(TaskId(0))).contains(&Action::Kill(TaskId(0))));
}

#[test]
fn a_run_does_not_wait_for_edges_that_are_still_being_made() {
    let p = pipeline(&["a", "b"], &["a>b"]);
    let (mut state, mut said) = (State::new(&p, &plan(&p)), vec![]);
    state.step(Event::Begin, Duration::ZERO, &mut said);
    assert_eq!(said, [Action::Prepare(GangId(0))]);
    said.clear();
    state.step(Event::Interrupted(Signal(2)), Duration::ZERO, &mut said);
    assert!(said.contains(&Action::Dissolve(GangId(0))), "{said:?}");
    assert_eq!(said.last(), Some(&Action::Finish(Ending::Interrupted(Signal(2)))));
    said.clear();
    state.step(Event::Prepared(GangId(0)), Duration::ZERO, &mut said);
    assert_eq!(said, [], "too late");
}

#[test]
fn a_timeout_asks_then_kills() {
    let mut p = pipeline(&["a"], &[]);
    p.stages[0].timeout = Some(Duration::from_secs(5));
    let mut run = Script::new(&p);
    run.started(&[0]);
    assert_eq!(run.state.next_deadline(), Some(Duration::from_secs(5)));
    run.now = Duration::from_secs(5);
    assert_eq!(run.event(Event::Tick), [Action::Signal(TaskId(0), Signal(15))]);
    run.now = Duration::from_secs(15);
    assert_eq!(run.event(Event::Tick), [Action::Kill(TaskId(0))]);
    let said = run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(9)))).to_vec();
    assert_eq!(said[1], Action::Settled(TaskId(0), Outcome::TimedOut));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::TimedOut)));
}

#[test]
fn a_second_scheduled_stage_waits_for_a_slot_and_says_how_long() {
    let mut p = pipeline(&["a", "b"], &[]);
    p.parallel = Some(1);
    let mut run = Script::new(&p);
    assert_eq!((spawned(&run.said), run.state.queued()), (vec![0], 1));
    run.started(&[0]);
    run.now = Duration::from_secs(3);
    assert_eq!(spawned(run.ended(0, 0)), [1]);
    assert_eq!(run.state.queue_wait(TaskId(1)), Duration::from_secs(3));
}

fn random_pipeline(r: &mut Random) -> Pipeline {
    let n = 1 + r.below(10);
    let mut stages: Vec<Stage> = (0..n).map(|i| stage(format!("s{i}"))).collect();
    for s in &mut stages {
        s.replicas = 1 + r.below(3) as u32;
        s.service = r.percent(15);
        s.timeout = r.percent(20).then(|| Duration::from_secs(1 + r.below(30) as u64));
        s.restart = r.percent(40).then(|| random_restart(r, s.service));
    }
    let mut links: BTreeSet<(StageId, StageId)> = BTreeSet::new();
    for _ in 0..r.below(n) {
        let a = r.below(n - 1);
        links.insert((StageId(a as u32), StageId((a + 1) as u32)));
    }
    let mut p = assemble(stages, links.into_iter().collect());
    p.edges.iter_mut().filter(|_| r.percent(30)).for_each(|e| e.kind = Kind::Pipe);
    for i in 1..n {
        for _ in 0..r.below(3) {
            let on = r.below(i);
            // Across gangs only backwards over whole gangs, so that gangs cannot wait for one another in a circle.
            let same = p.stages[i].gang == p.stages[on].gang;
            let condition = if same || r.percent(30) {
                Condition::Started
            } else if p.stages[on].service {
                continue;
            } else if r.percent(50) {
                Condition::Completed
            } else {
                Condition::Exited
            };
            if p.stages[i].depends_on.iter().all(|d| d.stage.0 != on as u32) {
                p.stages[i].depends_on.push(Dependency { stage: StageId(on as u32), condition });
            }
        }
    }
    p.parallel = Some(1 + r.below(4) as u32);
    p.timeout = r.percent(10).then(|| Duration::from_secs(20));
    p.on_failure = if r.percent(20) { OnFailure::Stop } else { OnFailure::Continue };
    p
}

fn random_restart(r: &mut Random, service: bool) -> Restart {
    let backoff = Duration::from_millis(r.below(2000) as u64);
    Restart {
        when: if service && r.percent(50) { When::Always } else { When::OnFailure },
        limit: 1 + r.below(4) as u32,
        window: Duration::from_secs(1 + r.below(60) as u64),
        backoff,
        backoff_max: backoff * (1 + r.below(3) as u32),
        scope: if r.percent(30) { Scope::Gang } else { Scope::Stage },
    }
}

/// What the simulated kernel knows of a task.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Process {
    None,
    /// Not before then, and with the gang if that says so.
    Resting(Duration),
    Starting,
    Running {
        told: bool,
        killed: bool,
    },
    Gone,
}

/// What the simulator knows of a run.
struct World<'a> {
    seed: u64,
    p: &'a Pipeline,
    tasks: &'a [Task],
    processes: Vec<Process>,
    /// Of each task: asked for, and begun.
    attempts: Vec<(u32, u32)>,
    /// Has exec'd since its gang was prepared.
    started: Vec<bool>,
    /// Its edges were ended.
    closed: Vec<bool>,
    done: BTreeSet<TaskId>,
    settled: BTreeMap<TaskId, Outcome>,
    prepared: BTreeSet<GangId>,
    /// Not before then.
    rewinding: BTreeMap<GangId, Duration>,
    restarts: BTreeMap<TaskId, Vec<Duration>>,
    finished: Option<Ending>,
    now: Duration,
}

impl World<'_> {
    fn gang_of(&self, t: TaskId) -> GangId {
        self.stage(t).gang
    }

    fn stage(&self, t: TaskId) -> &Stage {
        self.p.stage(self.tasks[t.0 as usize].stage)
    }

    fn of_gang(&self, g: GangId) -> Vec<TaskId> {
        (0..self.tasks.len() as u32).map(TaskId).filter(|&t| self.gang_of(t) == g).collect()
    }

    fn of_stage(&self, s: StageId) -> impl Iterator<Item = TaskId> {
        (0..self.tasks.len() as u32).map(TaskId).filter(move |t| self.tasks[t.0 as usize].stage == s)
    }

    fn process(&mut self, t: TaskId) -> &mut Process {
        &mut self.processes[t.0 as usize]
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Started(t) => {
                *self.process(t) = Process::Running { told: false, killed: false };
                self.attempts[t.0 as usize].1 += 1;
                self.started[t.0 as usize] = true;
            }
            Event::NotStarted(t) => *self.process(t) = Process::None,
            Event::Ended(t, _) => *self.process(t) = Process::Gone,
            _ => {}
        }
    }

    /// Holds an action against what may be; what comes of it.
    fn takes(&mut self, action: Action, state: &State, r: &mut Random) -> Option<Event> {
        let seed = self.seed;
        assert_eq!(self.finished, None, "seed {seed}: nothing follows the end");
        match action {
            Action::Prepare(g) => {
                let anew = self.rewinding.remove(&g);
                assert!(self.prepared.insert(g) != anew.is_some(), "seed {seed}: prepared twice");
                assert!(anew.is_none_or(|at| at <= self.now), "seed {seed}: {g:?} rests until {anew:?}");
                for t in self.of_gang(g) {
                    let (process, attempts) = (*self.process(t), self.attempts[t.0 as usize].0);
                    let down = matches!(process, Process::Resting(_)) || process == Process::None && attempts == 0;
                    assert!(down, "seed {seed}: {g:?} begins while {t:?} is {process:?}");
                    assert!(!self.settled.contains_key(&t), "seed {seed}: {t:?} has settled");
                    if anew.is_some() && attempts > 0 {
                        *self.process(t) = Process::Resting(Duration::ZERO); // what it waited for alone is forgotten
                    }
                    (self.started[t.0 as usize], self.closed[t.0 as usize]) = (false, false);
                }
                return Some(Event::Prepared(g));
            }
            Action::Spawn(t) => {
                let at = match *self.process(t) {
                    Process::None => Duration::ZERO,
                    Process::Resting(at) => at,
                    other => panic!("seed {seed}: {t:?} started while {other:?}"),
                };
                assert!(at <= self.now, "seed {seed}: {t:?} rests until {at:?}");
                assert!(!self.closed[t.0 as usize], "seed {seed}: {t:?} has no edges any more");
                assert!(!self.rewinding.contains_key(&self.gang_of(t)), "seed {seed}: its gang rewinds");
                assert!(self.prepared.contains(&self.gang_of(t)), "seed {seed}: spawned before it was prepared");
                self.check_dependencies(t);
                self.attempts[t.0 as usize].0 += 1;
                assert_eq!(state.attempt(t), self.attempts[t.0 as usize].0, "seed {seed}: attempts grow by one");
                *self.process(t) = Process::Starting;
                return Some(if r.percent(4) { Event::NotStarted(t) } else { Event::Started(t) });
            }
            Action::OpenEdges(g) => {
                let all = self.of_gang(g).into_iter().all(|t| self.started[t.0 as usize]);
                assert!(all, "seed {seed}: edges open before every mate has run");
            }
            Action::Signal(t, _) => match self.process(t) {
                Process::Running { told, .. } => *told = true,
                other => panic!("seed {seed}: {t:?} signalled while {other:?}"),
            },
            Action::Kill(t) => match self.process(t) {
                Process::Running { killed, .. } => *killed = true,
                other => panic!("seed {seed}: {t:?} killed while {other:?}"),
            },
            Action::Restarting(t, outcome, wait) => self.rests(t, outcome, wait),
            Action::Done(t) => {
                assert_eq!(*self.process(t), Process::Gone, "seed {seed}");
                assert!(self.done.insert(t), "seed {seed}: {t:?} done twice");
            }
            Action::Settled(t, outcome) => {
                assert!(self.settled.insert(t, outcome).is_none(), "seed {seed}: {t:?} settled twice");
                let process = *self.process(t);
                assert!(!matches!(process, Process::Starting | Process::Running { .. }), "seed {seed}: {t:?} lives");
                let (asked, begun) = self.attempts[t.0 as usize];
                match outcome {
                    Outcome::Skipped(_) => assert_eq!(begun, 0, "seed {seed}: {t:?} ran"),
                    Outcome::NotStarted => assert_ne!(asked, 0, "seed {seed}: {t:?} was not even tried"),
                    _ => assert_ne!(asked, 0, "seed {seed}: {t:?} {outcome:?} without a process"),
                }
            }
            Action::Release(t) | Action::Abandon(t) => self.closed[t.0 as usize] = true,
            Action::AskDrained(t) => return Some(Event::Drained(t, r.percent(50))),
            Action::Dissolve(_) => {}
            Action::Finish(ending) => self.finished = Some(ending),
        }
        None
    }

    fn rests(&mut self, t: TaskId, outcome: Outcome, wait: Duration) {
        let (seed, g, now) = (self.seed, self.gang_of(t), self.now);
        assert!(!self.settled.contains_key(&t), "seed {seed}: {t:?} has settled");
        let was_done = self.done.remove(&t);
        assert_eq!(was_done, outcome == Outcome::Succeeded, "seed {seed}: {t:?} {outcome:?}");
        *self.process(t) = Process::Resting(now + wait);
        if self.rewinding.contains_key(&g) {
            return; // taken along
        }
        let policy = self.stage(t).restart.unwrap_or_else(|| panic!("seed {seed}: {t:?} is never restarted"));
        let past = self.restarts.entry(t).or_default();
        past.push(now);
        let within = past.iter().filter(|&&at| now - at < policy.window).count();
        assert!(within <= policy.limit as usize, "seed {seed}: {t:?} over its limit");
        assert!(wait <= policy.backoff_max, "seed {seed}: {t:?} rests too long");
        let service_left = outcome == Outcome::Failed(Exit::Code(0));
        assert!(!service_left || policy.when == When::Always, "seed {seed}: {t:?}");
        if policy.scope == Scope::Gang && !(self.stage(t).inputs.is_empty() && self.stage(t).outputs.is_empty()) {
            self.rewinding.insert(g, now + wait);
        } else {
            assert!(!self.closed[t.0 as usize], "seed {seed}: the edges of {t:?} wait for it");
        }
    }

    fn check_dependencies(&self, t: TaskId) {
        for d in &self.stage(t).depends_on {
            let mate = self.p.stage(d.stage).gang == self.gang_of(t);
            let holds = match d.condition {
                // Said once to others, and to mates each time their gang begins.
                Condition::Started if mate => self.of_stage(d.stage).all(|x| self.started[x.0 as usize]),
                Condition::Started => self.of_stage(d.stage).all(|x| self.attempts[x.0 as usize].1 > 0),
                Condition::Completed => {
                    self.of_stage(d.stage).all(|x| self.settled.get(&x).is_some_and(|o| o.is_good()))
                }
                Condition::Exited => self.of_stage(d.stage).all(|x| self.settled.contains_key(&x)),
            };
            assert!(holds, "seed {}: {t:?} started before {d:?} held", self.seed);
        }
    }

    fn check_slots(&self) {
        let holding = self.prepared.iter().filter(|g| {
            let batch = self.p.gangs[g.0 as usize].iter().any(|s| !self.p.stage(*s).service);
            batch && self.of_gang(**g).iter().any(|t| !self.settled.contains_key(t))
        });
        assert!(holding.count() <= self.p.parallel.expect("set") as usize, "seed {}: more gangs than slots", self.seed);
    }

    /// All that could still write what the stage reads is over.
    fn is_dry(&self, stage: &Stage) -> bool {
        let over = |x: TaskId| self.settled.contains_key(&x) || self.done.contains(&x);
        let producers = |e: EdgeId| self.p.edge(e).from.clone();
        !stage.inputs.is_empty()
            && stage.inputs.iter().all(|&e| producers(e).into_iter().all(|s| self.of_stage(s).all(over)))
    }

    /// Whether and how a process ends now.
    fn ends(&self, t: TaskId, obedient: bool, r: &mut Random) -> Option<Exit> {
        let Process::Running { told, killed } = self.processes[t.0 as usize] else { return None };
        let stage = self.stage(t);
        let chance = match () {
            () if killed => 60,
            () if told && obedient => 40,
            () if told => 2,
            () if self.is_dry(stage) => 30,
            () if stage.service => 1,
            () => 15,
        };
        r.percent(chance).then(|| match r.below(10) {
            _ if killed => Exit::Signal(Signal(9)),
            _ if told => Exit::Signal(Signal(15)),
            0 => Exit::Code(1),
            1 if !stage.outputs.is_empty() => Exit::Signal(Signal(13)),
            2 => Exit::Signal(Signal(9)),
            _ => Exit::Code(0),
        })
    }
}

fn simulate(seed: u64) {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let p = random_pipeline(&mut r);
    let mut state = State::new(&p, &plan(&p));
    let tasks = plan(&p).tasks;
    let n = tasks.len();
    let mut world = World {
        seed,
        p: &p,
        tasks: &tasks,
        processes: vec![Process::None; n],
        attempts: vec![(0, 0); n],
        started: vec![false; n],
        closed: vec![false; n],
        done: BTreeSet::new(),
        settled: BTreeMap::new(),
        prepared: BTreeSet::new(),
        rewinding: BTreeMap::new(),
        restarts: BTreeMap::new(),
        finished: None,
        now: Duration::ZERO,
    };
    let mut inbox = vec![Event::Begin];
    let obedient = r.percent(80);
    let mut idle_rounds = 0;

    for _ in 0..20_000 {
        if !inbox.is_empty() {
            let event = inbox.swap_remove(r.below(inbox.len()));
            world.happens(&event);
            let mut actions = vec![];
            state.step(event, world.now, &mut actions);
            for action in actions {
                inbox.extend(world.takes(action, &state, &mut r));
            }
            world.check_slots();
        }
        if let Some(ending) = world.finished {
            assert_eq!(world.settled.len(), n, "seed {seed}: every task has its outcome");
            let bad = |o: &Outcome| matches!(o, Outcome::Failed(_) | Outcome::NotStarted | Outcome::TimedOut);
            let failed = world.settled.values().any(bad);
            assert!(!failed || ending != Ending::Succeeded, "seed {seed}: a failure is told");
            return;
        }
        // Time passes and processes end, as the seed has it.
        world.now += Duration::from_millis(r.below(2000) as u64);
        if state.next_deadline().is_some_and(|d| d <= world.now) {
            inbox.push(Event::Tick);
        }
        let mut something = !inbox.is_empty();
        for t in (0..n as u32).map(TaskId) {
            something |= matches!(world.processes[t.0 as usize], Process::Running { .. });
            if let Some(exit) = world.ends(t, obedient, &mut r)
                && !inbox.iter().any(|e| matches!(e, Event::Ended(x, _) if *x == t))
            {
                inbox.push(Event::Ended(t, exit));
            }
        }
        if r.percent(1) {
            inbox.push(if r.percent(5) { Event::Orphaned } else { Event::Interrupted(Signal(2)) });
        }
        idle_rounds = if something { 0 } else { idle_rounds + 1 };
        assert!(
            idle_rounds < 100 || state.next_deadline().is_some(),
            "seed {seed}: nothing will ever happen: {state:#?}"
        );
    }
    panic!("seed {seed}: does not end");
}

#[test]
fn invariants_hold_over_random_histories() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) {
        return simulate(seed);
    }
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2_000);
    (0..seeds).for_each(simulate);
}
