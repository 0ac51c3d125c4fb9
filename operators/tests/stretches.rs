//! What the fold hands to log sinks: no gap, nothing twice, whoever wants logs when, and the verdict on what is too old
//! can be told from the offsets where it changed.

use proptest::prelude::*;
use smartlog_operators::fold::{Context, Fold, Outcomes};
use smartlog_operators::parse::{FieldMapping, Limits, Parser};
use smartlog_operators::record::{Partition, Record, Records};
use smartlog_operators::settings::Time;
use smartlog_operators::stretch::{Stretch, Wants};
use smartlog_schema::commit::RetentionCut;
use smartlog_schema::position::TopicPartition;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

const HOUR_US: i64 = 3_600_000_000;
const START_US: i64 = 1_768_473_000_000_000;
const RETENTION_US: i64 = 10 * HOUR_US;
const PARTITIONS: usize = 3;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Records of one partition, each so many minutes after the start; offsets may be left out before them.
    Read {
        slot: usize,
        hole: i64,
        minutes: Vec<i64>,
    },
    Want {
        slot: usize,
        keep: bool,
    },
    Clock {
        minutes: i64,
    },
    Hand,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PARTITIONS, 0..3_i64, prop::collection::vec(-900..600_i64, 1..6))
            .prop_map(|(slot, hole, minutes)| Step::Read { slot, hole, minutes }),
        2 => (0..PARTITIONS, any::<bool>()).prop_map(|(slot, keep)| Step::Want { slot, keep }),
        1 => (0..400_i64).prop_map(|minutes| Step::Clock { minutes }),
        1 => Just(Step::Hand),
        2 => Just(Step::Close),
    ]
}

struct Slice(Vec<(u32, i64, Vec<u8>)>);

impl Records for Slice {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let (slot, offset, payload) = &self.0[index];
        Record { slot: *slot, offset: *offset, record_time_us: Some(i64::MAX / 4), payload: Some(payload) }
    }
}

/// One record as it was fed: was it to be kept, and by which cut.
#[derive(Debug, Clone, Copy)]
struct Fed {
    offset: i64,
    timestamp_us: i64,
    kept: bool,
    before_us: i64,
}

/// The naive program: it remembers everything.
struct Model {
    fold: Fold,
    wants: Wants,
    clock_us: Rc<Cell<i64>>,
    next: [i64; PARTITIONS],
    fed: [Vec<Fed>; PARTITIONS],
    cuts: [Vec<RetentionCut>; PARTITIONS],
    stretches: [Vec<Stretch>; PARTITIONS],
}

impl Model {
    fn new() -> Self {
        let (wants, clock_us) = (Wants::default(), Rc::new(Cell::new(0)));
        let fold = Fold::new(Context {
            parser: Arc::new(Parser::new(FieldMapping::default(), Limits::default())),
            time: Time::default(),
            retention_us: Some(RETENTION_US),
            wants: Some(Rc::clone(&wants)),
            clock_us: Rc::clone(&clock_us),
            live: Rc::new(RefCell::new(Vec::new())),
            wall_us: START_US,
            outcomes: Arc::new(Outcomes::default()),
        });
        Model {
            fold,
            wants,
            clock_us,
            next: [5, 50, 500],
            fed: Default::default(),
            cuts: Default::default(),
            stretches: Default::default(),
        }
    }

    fn partitions(&self) -> Vec<Partition> {
        let partition = |slot: usize| Partition {
            source: TopicPartition::new("logs", slot as i32),
            next_offset: self.next[slot],
            at_end: false,
            ended: false,
            attached: (slot == 1).into(),
            time_us: None,
        };
        (0..PARTITIONS).map(partition).collect()
    }

    /// The rule as docs/OPERATIONS.md has it.
    fn before_us(&self) -> i64 {
        match self.clock_us.get() {
            0 => i64::MIN,
            clock_us => clock_us - clock_us.rem_euclid(HOUR_US) - RETENTION_US,
        }
    }

    fn take(&mut self, stretches: Vec<Stretch>) {
        for stretch in stretches {
            self.stretches[stretch.slot as usize].push(stretch);
        }
    }

    fn close(&mut self) {
        let partitions = self.partitions();
        for (slot, report) in self.fold.close(&partitions, START_US).into_iter().enumerate() {
            self.cuts[slot].extend(report.cuts);
        }
        let stretches = self.fold.take_stretches(Some(&partitions));
        self.take(stretches);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Read { slot, hole, minutes } => {
                self.next[slot] += hole;
                let (kept, before_us) = (self.wants.borrow()[slot].keep, self.before_us());
                let mut records = Vec::new();
                for minute in minutes {
                    let (offset, timestamp_us) = (self.next[slot], START_US + minute * 60_000_000);
                    self.next[slot] += 1;
                    self.fed[slot].push(Fed { offset, timestamp_us, kept, before_us });
                    let log = format!(
                        r#"{{"timestamp":{timestamp_us},"level":"INFO","service":"s","message":"{offset}"}}"#
                    );
                    records.push((slot as u32, offset, log.into_bytes()));
                }
                self.fold.records(&Slice(records));
            }
            Step::Want { slot, keep } => {
                let want = &mut self.wants.borrow_mut()[slot];
                (want.keep, want.asked) = (keep, true);
            }
            Step::Clock { minutes } => {
                self.clock_us.set(self.clock_us.get().max(START_US + minutes * 60_000_000));
            }
            Step::Hand => {
                let stretches = self.fold.take_stretches(None);
                self.take(stretches);
            }
            Step::Close => self.close(),
        }
    }

    fn judge(&self, starts: [i64; PARTITIONS]) {
        for (slot, start) in starts.into_iter().enumerate() {
            let mut next = start;
            for stretch in &self.stretches[slot] {
                let batch = &stretch.batch;
                assert_eq!(batch.first_offset, next, "a stretch begins where the last one ended");
                next = batch.next_offset;
                let inside =
                    self.fed[slot].iter().filter(|fed| (batch.first_offset..next).contains(&fed.offset));
                let inside: Vec<&Fed> = inside.collect();
                let is_young = |fed: &&&Fed| fed.timestamp_us >= fed.before_us;
                let logs: Vec<i64> = inside.iter().filter(is_young).map(|fed| fed.offset).collect();
                let old: Vec<i64> =
                    inside.iter().filter(|fed| !is_young(fed)).map(|fed| fed.offset).collect();
                let found: Vec<i64> = batch.iter().map(|log| log.offset).collect();
                let letters: Vec<i64> = batch.dead_letters.iter().map(|letter| letter.offset).collect();
                let expected = if stretch.kept { (logs, old) } else { (Vec::new(), Vec::new()) };
                assert_eq!((found, letters), expected, "logs, and those that are too old");
                for fed in inside {
                    assert_eq!((fed.kept, fed.before_us), (stretch.kept, stretch.before_us), "{fed:?}");
                }
            }
            assert_eq!(next, self.next[slot], "everything was handed on");
            for fed in &self.fed[slot] {
                let in_force = self.cuts[slot].iter().rfind(|cut| cut.from_offset <= fed.offset);
                assert_eq!(in_force.map_or(i64::MIN, |cut| cut.before_us), fed.before_us, "{fed:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn stretches_have_no_gap_and_the_verdict_on_age_is_told_by_the_offsets(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        let starts = model.next;
        let partitions = model.partitions();
        model.fold.partitions(&partitions);
        steps.into_iter().for_each(|step| model.step(step));
        model.close();
        model.judge(starts);
    }
}

#[test]
fn whoever_asks_is_shown_a_stretch_although_nothing_was_read() {
    let mut model = Model::new();
    let partitions = model.partitions();
    model.fold.partitions(&partitions);
    model.close();
    assert!(model.stretches.iter().all(|stretches| stretches.len() == 1), "the first, of each partition");
    model.close();
    assert!(model.stretches.iter().all(|stretches| stretches.len() == 1), "nobody asked");
    model.step(Step::Want { slot: 2, keep: true });
    model.close();
    let last = model.stretches[2].last().expect("it was asked for");
    assert_eq!((last.kept, last.batch.first_offset, last.batch.next_offset), (true, 500, 500));
}
