//! The statements of a state store, prepared once a session.

use super::patterns;
use tokio_postgres::{Client, Error, Statement};

pub(super) struct Statements {
    pub fence: Statement,
    pub grow: Statement,
    pub begin_partition: Statement,
    pub keep_cuts: Statement,
    pub add_seconds: Statement,
    pub drop_empty: Statement,
    pub forget: Statement,
    pub add_hourly: Statement,
    pub drop_empty_hours: Statement,
    pub keep_detectors: Statement,
    pub give_up_detectors: Statement,
    pub keep_warmth: Statement,
    pub keep_minutes: Statement,
    pub forget_minutes: Statement,
    pub patterns: patterns::Statements,
    pub stored_episodes: Statement,
    pub write_episode: Statement,
    pub append_events: Statement,
    pub recount: Statement,
    pub add_scores: Statement,
    pub add_models: Statement,
    pub keep_evidence: Statement,
}

impl Statements {
    /// Sent together, for a reconnect must be quick.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let (fence, grow, begin_partition, add_seconds, drop_empty, forget, add_hourly) = tokio::try_join!(
            client.prepare(FENCE),
            client.prepare(GROW),
            client.prepare(BEGIN_PARTITION),
            client.prepare(ADD_SECONDS),
            client.prepare(DROP_EMPTY),
            client.prepare(FORGET),
            client.prepare(ADD_HOURLY),
        )?;
        let (
            drop_empty_hours,
            keep_detectors,
            give_up_detectors,
            keep_warmth,
            stored_episodes,
            write_episode,
            append_events,
            recount,
            add_scores,
            add_models,
            keep_cuts,
            keep_minutes,
            forget_minutes,
            keep_evidence,
        ) = tokio::try_join!(
            client.prepare(DROP_EMPTY_HOURS),
            client.prepare(KEEP_DETECTORS),
            client.prepare(GIVE_UP_DETECTORS),
            client.prepare(KEEP_WARMTH),
            client.prepare(STORED_EPISODES),
            client.prepare(WRITE_EPISODE),
            client.prepare(APPEND_EVENTS),
            client.prepare(RECOUNT),
            client.prepare(ADD_SCORES),
            client.prepare(ADD_MODELS),
            client.prepare(KEEP_CUTS),
            client.prepare(KEEP_MINUTES),
            client.prepare(FORGET_MINUTES),
            client.prepare(KEEP_EVIDENCE),
        )?;
        let patterns = patterns::Statements::prepare(client).await?;
        Ok(Statements {
            fence,
            grow,
            begin_partition,
            keep_cuts,
            add_seconds,
            drop_empty,
            forget,
            add_hourly,
            drop_empty_hours,
            keep_detectors,
            give_up_detectors,
            keep_warmth,
            keep_minutes,
            forget_minutes,
            patterns,
            stored_episodes,
            write_episode,
            append_events,
            recount,
            add_scores,
            add_models,
            keep_evidence,
        })
    }
}

const FENCE: &str = "UPDATE pipeline_state SET sequence = $1, event_seq = $2, epoch = $3, clock_us = $4,
                            watermark_us = $5, wall_us = $6, partition_clocks = $7::text::json,
                            feedback_seq = coalesce($11, feedback_seq), updated_at = now()
                     WHERE pipeline = $8 AND sequence = $9 AND holder = $10";

const GROW: &str = "UPDATE sink_positions AS p SET next_offset = m.next,
                            record_time_ms = coalesce(m.record_time_ms, p.record_time_ms),
                            payload_hash = coalesce(m.payload_hash, p.payload_hash), updated_at = now()
                     FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
                          AS m (topic, partition, next, record_time_ms, payload_hash, expected)
                     WHERE p.sink = $1 AND p.topic = m.topic AND p.partition = m.partition
                       AND p.next_offset = m.expected";

const BEGIN_PARTITION: &str =
    "INSERT INTO sink_positions (sink, topic, partition, next_offset, record_time_ms, payload_hash)
                     SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                     ON CONFLICT DO NOTHING";

const KEEP_CUTS: &str = "INSERT INTO retention_cuts (topic, partition, from_offset, before_us)
                     SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
                     ON CONFLICT (topic, partition, from_offset) DO UPDATE SET before_us = excluded.before_us";

const ADD_SECONDS: &str = "INSERT INTO window_state AS w (service, second, logs, errors, message_chars)
                     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                     ON CONFLICT (second, service) DO UPDATE SET logs = w.logs + excluded.logs,
                            errors = w.errors + excluded.errors,
                            message_chars = w.message_chars + excluded.message_chars";

const DROP_EMPTY: &str =
    "DELETE FROM window_state AS w USING unnest($1::text[], $2::bigint[]) AS c (service, second)
                     WHERE w.second = c.second AND w.service = c.service
                       AND w.logs = 0 AND w.errors = 0 AND w.message_chars = 0";

const FORGET: &str = "DELETE FROM window_state WHERE second < $1";

const ADD_HOURLY: &str = "INSERT INTO hourly_metrics AS h (hour, service, log_count, error_count)
                     SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[])
                     ON CONFLICT (hour, service) DO UPDATE SET log_count = h.log_count + excluded.log_count,
                            error_count = h.error_count + excluded.error_count";

const DROP_EMPTY_HOURS: &str =
    "DELETE FROM hourly_metrics AS h USING unnest($1::timestamptz[], $2::text[]) AS c (hour, service)
                     WHERE h.hour = c.hour AND h.service = c.service
                       AND h.log_count = 0 AND h.error_count = 0 AND h.anomaly_count = 0";

const KEEP_DETECTORS: &str =
    "INSERT INTO baseline_state (service, state) SELECT * FROM unnest($1::text[], $2::bytea[])
                     ON CONFLICT (service) DO UPDATE SET state = excluded.state";

const GIVE_UP_DETECTORS: &str = "DELETE FROM baseline_state WHERE service = ANY ($1::text[])";

const KEEP_WARMTH: &str = "UPDATE baseline_state AS b SET known_minutes = c.known, needed_minutes = c.needed
                     FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS c (service, known, needed)
                     WHERE b.service = c.service";

const KEEP_MINUTES: &str = "INSERT INTO minute_state (service, minute, counts)
                     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])
                     ON CONFLICT (minute, service) DO UPDATE SET counts = excluded.counts";

const FORGET_MINUTES: &str = "DELETE FROM minute_state WHERE minute < $1";

const STORED_EPISODES: &str = "SELECT c.at, a.id, a.started_at
                     FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
                          AS c (service, anomaly_type, first_raised_at, at)
                     JOIN anomalies AS a ON coalesce(a.service, '') = c.service
                      AND a.anomaly_type = c.anomaly_type AND a.first_raised_at = c.first_raised_at";

const APPEND_EVENTS: &str = "INSERT INTO anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode)
                     SELECT c.seq, c.anomaly_id, c.kind, c.revision, c.status, c.reason, $7, c.episode::json
                     FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $8::text[])
                          AS c (seq, anomaly_id, kind, revision, status, reason, episode)";

const RECOUNT: &str = "INSERT INTO hourly_metrics AS h (hour, service, anomaly_count)
                     SELECT c.hour, c.service, (
                         SELECT count(*) FROM anomalies AS a
                         WHERE a.service = c.service AND a.started_at >= c.hour AND a.started_at < c.until
                           AND a.status <> 'retracted')
                     FROM unnest($1::timestamptz[], $2::text[], $3::timestamptz[]) AS c (hour, service, until)
                     ON CONFLICT (hour, service) DO UPDATE SET anomaly_count = excluded.anomaly_count";

const ADD_SCORES: &str =
    "INSERT INTO window_scores AS s (minute, service, role, score, threshold, alert_threshold, model_version,
                                     would_raise)
                     SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::float8[], $5::float8[],
                                          $6::float8[], $7::text[], $8::timestamptz[])
                     ON CONFLICT (minute, service, role) DO UPDATE SET
                            score = greatest(s.score, excluded.score),
                            threshold = excluded.threshold, alert_threshold = excluded.alert_threshold,
                            model_version = excluded.model_version,
                            would_raise = coalesce(s.would_raise, excluded.would_raise)
                     WHERE s.score < excluded.score OR (s.would_raise IS NULL AND excluded.would_raise IS NOT NULL)";

const ADD_MODELS: &str = "INSERT INTO model_swaps (role, effective, version, digest)
                     SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
                     ON CONFLICT (role, effective) DO UPDATE SET version = excluded.version,
                            digest = excluded.digest, created_at = now()";

const KEEP_EVIDENCE: &str = "INSERT INTO anomaly_evidence (anomaly_id, decision, inputs, detector, offsets, feedback_seq)
                     SELECT id, $4, $5, $6, $7, $8 FROM anomalies
                     WHERE coalesce(service, '') = $1 AND anomaly_type = $2 AND first_raised_at = $3
                     ON CONFLICT (anomaly_id) DO UPDATE SET decision = excluded.decision, inputs = excluded.inputs,
                            detector = excluded.detector, offsets = excluded.offsets,
                            feedback_seq = excluded.feedback_seq";

/// With an id ($1) the row is there and is changed; without, it is made. So ids are spent on new episodes only.
const WRITE_EPISODE: &str = "
    WITH changed AS (
        UPDATE anomalies SET status = $5, severity = $6, revision = $7, detected_at = $8, started_at = $9,
               last_seen = $10, ended_at = $11, metric_value = $12, threshold = $13, baseline = $14, peak_value = $15,
               score = $16, model_version = $17, description = $18, explanation = $19::text::json,
               provenance = $20::text::json, expected_by = $21::bigint, expected_status = $22, updated_at = now()
        WHERE id = $1::bigint RETURNING id
    ), made AS (
        INSERT INTO anomalies (service, anomaly_type, first_raised_at, status, severity, revision, detected_at,
               started_at, last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
               description, explanation, provenance, expected_by, expected_status)
        SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text::json,
               $20::text::json, $21::bigint, $22
        WHERE $1::bigint IS NULL RETURNING id
    )
    SELECT id FROM changed UNION ALL SELECT id FROM made";
