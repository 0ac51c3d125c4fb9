//! Mining in the dataflow: on one worker, for all.

use super::mining::{Mining, Named};
use crate::breakdown::Gathered;
use crate::closed_epochs::ClosedEpochs;
use crate::novelty::FirstSeen;
use crate::record::{Change, Epoch, WHOLE_STREAM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Map;

/// What is remembered, for whoever publishes it.
#[derive(Debug, Default)]
pub struct Size {
    pub patterns: AtomicUsize,
    pub shapes: AtomicUsize,
    /// Patterns that may be.
    pub limit: AtomicUsize,
}

/// What one epoch brings, with the right to tell names of it.
type Pending = (Option<Capability<Epoch>>, Vec<Gathered>);

/// What comes of mining.
pub struct Learned<'scope> {
    /// What the store must remember.
    pub changes: StreamVec<'scope, Epoch, Change>,
    /// Which pattern each shape belongs to, for all workers: to be broadcast.
    pub names: StreamVec<'scope, Epoch, Named>,
    /// What was stored of when services logged shapes first, told once.
    pub known: StreamVec<'scope, Epoch, FirstSeen>,
}

/// Learns the patterns of what all workers gather. `mining`: used on worker 0, with what is stored.
pub fn patterns<'scope>(
    gathered: StreamVec<'scope, Epoch, Gathered>,
    mut mining: Mining,
    size: Arc<Size>,
) -> Learned<'scope> {
    size.limit.store(mining.limit(), Ordering::Relaxed);
    // The whole stream's logs are those of its services.
    let of_services = gathered.flat_map(|gathered| {
        (gathered.service != WHOLE_STREAM).then(|| Gathered { hosts: Vec::new(), ..gathered })
    });
    let mut builder = OperatorBuilder::new("patterns".to_owned(), of_services.scope());
    let mut gathered = builder.new_input(of_services, Exchange::new(|_: &Gathered| 0));
    let (changes_out, changes) = builder.new_output();
    let (names_out, names) = builder.new_output();
    let (known_out, known) = builder.new_output();
    let mut changes_out = OutputBuilder::from(changes_out);
    let mut known_out = OutputBuilder::from(known_out);
    let mut names_out = OutputBuilder::from(names_out);
    builder.build(move |mut capabilities| {
        // What is stored is told at once.
        let mut begin = Some((capabilities.pop(), capabilities.pop()));
        drop(capabilities);
        let mut waiting = ClosedEpochs::<Pending>::new();
        move |frontiers| {
            if let Some((Some(known_cap), Some(names_cap))) = begin.take() {
                names_out.activate().session(&names_cap).give_iterator(mining.names());
                known_out.activate().session(&known_cap).give_iterator(mining.first_seen().into_iter());
            }
            gathered.for_each(|cap, data| {
                waiting.gather(cap.retain_least(0), |(names_cap, gathered)| {
                    *names_cap = names_cap.take().or_else(|| cap.retain_least(1));
                    gathered.append(data);
                });
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((changes_cap, (Some(names_cap), gathered))) = waiting.next(is_closed) {
                let (changes, names) = mining.take(gathered);
                names_out.activate().session(&names_cap).give_iterator(names.into_iter());
                if !changes.is_empty() {
                    changes_out.activate().session(&changes_cap).give(Change::Patterns(Box::new(changes)));
                }
                let (patterns, shapes) = mining.len();
                size.patterns.store(patterns, Ordering::Relaxed);
                size.shapes.store(shapes, Ordering::Relaxed);
            }
        }
    });
    Learned { changes, names, known }
}
