//! What the life of an episode may be: the drawing of `schema::anomaly` as a check.

use smartlog_schema::anomaly::{ChangeKind, EpisodeChange, EpisodeKey, Status};
use std::collections::BTreeMap;

/// Whether an episode in state `before` may change like this.
fn may_follow(before: Option<Status>, kind: ChangeKind, after: Status) -> bool {
    use ChangeKind::{Expired, Opened, Raised, Reopened, Resolved, Retracted, Updated};
    match (before, kind, after) {
        (None | Some(Status::Retracted), Raised, Status::Provisional) => true,
        // Catching up, an episode may be over when it is first seen.
        (None, Opened, Status::Open | Status::Resolved | Status::Expired) => true,
        (Some(Status::Provisional), Opened, Status::Open) => true,
        (Some(before), Updated, after) => before == after && before != Status::Retracted,
        (Some(before), Resolved, Status::Resolved) => before != Status::Resolved,
        (Some(before), Expired, Status::Expired) => before != Status::Expired,
        (Some(before), Retracted, Status::Retracted) => before != Status::Retracted,
        (Some(before), Reopened, Status::Open) => before.is_closed(),
        _ => false,
    }
}

/// Checks the changes of all episodes, in order: each life is a way through the drawing, its name stays, its revision
/// grows by one, and what makes no sense in a state is not there.
pub fn check(changes: &[EpisodeChange]) {
    let mut lives: BTreeMap<&EpisodeKey, (Status, i32, i64)> = BTreeMap::new();
    for EpisodeChange { kind, episode, reason } in changes {
        let before = lives.get(&episode.key).copied();
        let status = before.map(|(status, ..)| status);
        assert!(
            may_follow(status, *kind, episode.status),
            "{status:?} --{kind:?}--> {:?}: {episode:#?}",
            episode.status
        );
        let (_, revision, detected_at_us) = before.unwrap_or((episode.status, 0, episode.detected_at_us));
        assert_eq!(episode.revision, revision + 1, "{episode:#?}");
        assert!(*kind == ChangeKind::Raised || episode.detected_at_us == detected_at_us, "{episode:#?}");
        assert_eq!(
            reason.is_some(),
            *kind == ChangeKind::Retracted,
            "a retraction has a reason: {episode:#?}"
        );
        if matches!(episode.status, Status::Provisional | Status::Open) {
            assert_eq!(episode.ended_at, None, "{episode:#?}");
        }
        if matches!(episode.status, Status::Resolved | Status::Expired) {
            let ended_at = episode.ended_at.expect("what is over has an end");
            assert!(episode.started_at <= episode.last_seen && episode.last_seen < ended_at, "{episode:#?}");
        }
        lives.insert(&episode.key, (episode.status, episode.revision, episode.detected_at_us));
    }
}
