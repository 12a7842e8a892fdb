//! The tables that the decider walks: built once from pipeline and plan, never changed.

use std::time::Duration;

use crate::pipeline::{GangId, Pipeline, Restart, Stage, StageId};
use crate::plan::{Plan, TaskId};
use crate::spec::{Condition, Kind, OnFailure, Scope, Signal};

/// What the decider knows of a stage.
#[derive(Debug)]
pub(super) struct StageRow {
    pub gang: GangId,
    pub tasks: std::ops::Range<u32>,
    pub service: bool,
    pub timeout: Option<Duration>,
    pub restart: Option<Restart>,
    pub stop_signal: Signal,
    pub stop_timeout: Duration,
    /// (dependant, what it waits for)
    pub dependants: Vec<(StageId, Condition)>,
    /// Waiting for gang mates to be started: the only order inside a gang.
    pub waits_for_mates: u32,
    /// Stages that write what this one reads, and the reverse.
    pub producers: Vec<StageId>,
    pub consumers: Vec<StageId>,
    /// Who reads its stdout through a kernel pipe, and is to end by itself.
    pub pipe_reader: Option<StageId>,
}

#[derive(Debug)]
pub(super) struct GangRow {
    pub stages: Vec<StageId>,
    pub tasks: u32,
    /// Services alone take no slot.
    pub takes_slot: bool,
    /// Dependencies on stages of other gangs.
    pub waits_for: u32,
    /// The end of one of its tasks may restart them all.
    pub begins_anew: bool,
}

#[derive(Debug)]
pub(super) struct Graph {
    pub stages: Vec<StageRow>,
    pub gangs: Vec<GangRow>,
    pub stage_of_task: Vec<StageId>,
    pub slots: u32,
    pub timeout: Option<Duration>,
    pub on_failure: OnFailure,
}

impl Graph {
    pub fn new(pipeline: &Pipeline, plan: &Plan) -> Self {
        let mut first_task = 0;
        let mut stages: Vec<StageRow> = pipeline
            .stages
            .iter()
            .map(|s| {
                let tasks = first_task..first_task + s.replicas;
                first_task = tasks.end;
                StageRow {
                    gang: s.gang,
                    tasks,
                    service: s.service,
                    timeout: s.timeout,
                    restart: s.restart.map(|r| Restart { scope: scope(s, r.scope), ..r }),
                    stop_signal: s.stop_signal,
                    stop_timeout: s.stop_timeout,
                    dependants: Vec::new(),
                    waits_for_mates: 0,
                    producers: s.inputs.iter().flat_map(|&e| pipeline.edge(e).from.clone()).collect(),
                    consumers: s.outputs.iter().flat_map(|&e| pipeline.edge(e).to.clone()).collect(),
                    pipe_reader: s
                        .outputs
                        .iter()
                        .filter(|&&e| pipeline.edge(e).kind == Kind::Pipe)
                        .flat_map(|&e| pipeline.edge(e).to.clone())
                        .find(|&reader| !pipeline.stage(reader).service),
                }
            })
            .collect();
        let mut gangs: Vec<GangRow> = pipeline
            .gangs
            .iter()
            .map(|members| GangRow {
                stages: members.clone(),
                tasks: members.iter().map(|&s| pipeline.stage(s).replicas).sum(),
                takes_slot: members.iter().any(|&s| !pipeline.stage(s).service),
                waits_for: 0,
                begins_anew: members
                    .iter()
                    .any(|&s| stages[s.0 as usize].restart.is_some_and(|r| r.scope == Scope::Gang)),
            })
            .collect();
        for (id, stage) in pipeline.stage_ids().zip(&pipeline.stages) {
            for d in &stage.depends_on {
                stages[d.stage.0 as usize].dependants.push((id, d.condition));
                if pipeline.stage(d.stage).gang == stage.gang {
                    stages[id.0 as usize].waits_for_mates += 1;
                } else {
                    gangs[stage.gang.0 as usize].waits_for += 1;
                }
            }
        }
        assert_eq!(first_task as usize, plan.tasks.len(), "plan and pipeline agree on the tasks");
        Self {
            stage_of_task: plan.tasks.iter().map(|t| t.stage).collect(),
            stages,
            gangs,
            slots: pipeline.parallel.unwrap_or(plan.usable.len() as u32).max(1),
            timeout: pipeline.timeout,
            on_failure: pipeline.on_failure,
        }
    }

    pub fn stage(&self, id: StageId) -> &StageRow {
        &self.stages[id.0 as usize]
    }

    pub fn gang(&self, id: GangId) -> &GangRow {
        &self.gangs[id.0 as usize]
    }

    pub fn stage_of(&self, task: TaskId) -> (StageId, &StageRow) {
        let id = self.stage_of_task[task.0 as usize];
        (id, self.stage(id))
    }

    pub fn tasks_of_gang(&self, gang: GangId) -> impl Iterator<Item = TaskId> + '_ {
        self.gang(gang).stages.iter().flat_map(|&s| self.stage(s).tasks.clone()).map(TaskId)
    }
}

/// Without edges there is nobody to take along, not even other replicas.
fn scope(stage: &Stage, said: Scope) -> Scope {
    if stage.inputs.is_empty() && stage.outputs.is_empty() { Scope::Stage } else { said }
}
