//! Restarts, step by step.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const KILLED: Exit = Exit::Signal(Signal(9));

fn restart(scope: Scope) -> Restart {
    Restart { when: When::OnFailure, limit: 3, window: 60 * SECOND, backoff: SECOND, backoff_max: 3 * SECOND, scope }
}

fn with(stages: &[&str], links: &[&str], restarted: &[(usize, Scope)]) -> Pipeline {
    let mut p = pipeline(stages, links);
    restarted.iter().for_each(|&(stage, scope)| p.stages[stage].restart = Some(restart(scope)));
    p
}

fn killed(run: &mut Script, task: u32) -> Vec<Action> {
    run.event(Event::Ended(TaskId(task), KILLED)).to_vec()
}

fn after(run: &mut Script, wait: Duration) -> Vec<Action> {
    run.now += wait;
    run.event(Event::Tick).to_vec()
}

fn rests(task: u32, seconds: u32) -> Action {
    Action::Restarting(TaskId(task), Outcome::Failed(KILLED), seconds * SECOND)
}

#[test]
fn waits_grow_up_to_the_longest_and_the_limit_is_the_end() {
    let mut run = Script::new(&with(&["a", "b"], &["b:a!"], &[(0, Scope::Stage)]));
    for (attempt, wait) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(run.state.attempt(TaskId(0)), attempt);
        let said = run.event(Event::Started(TaskId(0))).to_vec();
        assert_eq!(spawned(&said), if attempt == 1 { vec![1] } else { vec![] }, "`started` is said once");
        assert_eq!(killed(&mut run, 0), [rests(0, wait)], "nothing happens to its edges");
        assert_eq!(run.state.next_deadline(), Some(run.now + wait * SECOND));
        assert_eq!(after(&mut run, wait * SECOND), [Action::Spawn(TaskId(0))]);
    }
    run.started(&[1]);
    run.ended(1, 0);
    run.started(&[0]);
    let said = killed(&mut run, 0);
    assert_eq!(said[1], Action::Settled(TaskId(0), Outcome::Failed(KILLED)));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::StageFailed)));
}

#[test]
fn restarts_long_ago_do_not_count() {
    let mut run = Script::new(&with(&["a"], &[], &[(0, Scope::Stage)]));
    for _ in 0..20 {
        run.started(&[0]);
        run.now += 60 * SECOND;
        assert_eq!(killed(&mut run, 0), [rests(0, 1)]);
        after(&mut run, SECOND);
    }
}

#[test]
fn what_could_not_be_started_at_first_is_not_tried_again() {
    let mut run = Script::new(&with(&["a"], &[], &[(0, Scope::Stage)]));
    let said = run.event(Event::NotStarted(TaskId(0)));
    assert_eq!(said.last(), Some(&Action::Finish(Ending::StageNotStarted)));
    let mut run = Script::new(&with(&["a"], &[], &[(0, Scope::Stage)]));
    run.started(&[0]);
    killed(&mut run, 0);
    after(&mut run, SECOND);
    let said = run.event(Event::NotStarted(TaskId(0)));
    assert_eq!(said, [Action::Restarting(TaskId(0), Outcome::NotStarted, 2 * SECOND)]);
}

#[test]
fn an_interrupt_ends_what_rests() {
    let mut run = Script::new(&with(&["a"], &[], &[(0, Scope::Stage)]));
    run.started(&[0]);
    killed(&mut run, 0);
    let said = run.event(Event::Interrupted(Signal(2))).to_vec();
    assert!(said.contains(&Action::Settled(TaskId(0), Outcome::Stopped(Cause::Interrupted))), "{said:?}");
    assert_eq!(said.last(), Some(&Action::Finish(Ending::Interrupted(Signal(2)))));
    assert_eq!(after(&mut run, 9 * SECOND), []);
}

#[test]
fn a_gang_stops_and_begins_anew_and_counts_once() {
    let mut run = Script::new(&with(&["a", "b", "c"], &["a>b", "c:a"], &[(1, Scope::Gang)]));
    run.started(&[0, 1]);
    let said = run.ended(0, 0).to_vec();
    assert_eq!(said, [Action::Release(TaskId(0)), Action::Done(TaskId(0))], "not settled: it may have to begin anew");
    let said = killed(&mut run, 1);
    let done = Action::Restarting(TaskId(0), Outcome::Succeeded, SECOND);
    assert_eq!(said, [rests(1, 1), Action::Abandon(TaskId(1)), done]);
    let said = after(&mut run, SECOND);
    assert_eq!(said, [Action::Prepare(GangId(0)), Action::Spawn(TaskId(0)), Action::Spawn(TaskId(1))]);
    run.started(&[0]);
    assert_eq!(run.event(Event::Started(TaskId(1))), [Action::OpenEdges(GangId(0))]);
    assert_eq!((run.state.attempt(TaskId(0)), run.state.attempt(TaskId(1))), (2, 2));
    // This time the reader is killed while the writer still runs.
    let said = killed(&mut run, 1);
    assert_eq!(said, [rests(1, 2), Action::Abandon(TaskId(1)), Action::Signal(TaskId(0), Signal(15))]);
    assert_eq!(after(&mut run, 5 * SECOND), [], "not while a mate lives");
    let said = run.event(Event::Ended(TaskId(0), Exit::Signal(Signal(15)))).to_vec();
    let stopped = Outcome::Stopped(Cause::Mate(TaskId(1)));
    assert_eq!(said[0], Action::Restarting(TaskId(0), stopped, 2 * SECOND));
    assert!(after(&mut run, 2 * SECOND).contains(&Action::Prepare(GangId(0))));
    run.started(&[0, 1]);
    run.ended(0, 0);
    let said = run.ended(1, 0).to_vec();
    assert!(said.contains(&Action::Settled(TaskId(0), Outcome::Succeeded)) && said.contains(&Action::Spawn(TaskId(2))));
}

#[test]
fn at_the_natural_end_only_what_is_fed_comes_back() {
    let mut p = with(&["job", "keeps", "db"], &["job>keeps"], &[(1, Scope::Stage), (2, Scope::Stage)]);
    p.stages[1].service = true;
    p.stages[2].service = true;
    let mut run = Script::new(&p);
    run.started(&[0, 1, 2]);
    killed(&mut run, 1);
    killed(&mut run, 2);
    let said = run.ended(0, 0).to_vec();
    assert!(said.contains(&Action::Settled(TaskId(2), Outcome::Stopped(Cause::NoLongerNeeded))), "{said:?}");
    assert_eq!(after(&mut run, SECOND), [Action::Spawn(TaskId(1))], "it has still to read");
    run.started(&[1]);
    assert_eq!(run.ended(1, 0).last(), Some(&Action::Finish(Ending::Succeeded)));
}
