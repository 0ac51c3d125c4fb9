-- The tables of docs/STATE.md for SQLite. Every time is an INTEGER: microseconds since 1970, UTC.

CREATE TABLE logs (
    id              INTEGER PRIMARY KEY,
    timestamp       INTEGER NOT NULL,
    level           TEXT    NOT NULL,
    service         TEXT    NOT NULL,
    host            TEXT,
    message         TEXT,
    metadata        TEXT,
    created_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    kafka_topic     TEXT    NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset    INTEGER NOT NULL,
    shape           INTEGER
) STRICT;
CREATE INDEX idx_logs_timestamp ON logs (timestamp);
CREATE INDEX idx_logs_service ON logs (service);

CREATE TABLE anomalies (
    id              INTEGER PRIMARY KEY,
    detected_at     INTEGER NOT NULL,
    anomaly_type    TEXT    NOT NULL,
    service         TEXT,
    severity        TEXT,
    description     TEXT,
    metric_value    REAL,
    threshold       REAL,
    model_version   TEXT,
    created_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    started_at      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,
    ended_at        INTEGER,
    updated_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    status          TEXT    NOT NULL,
    revision        INTEGER NOT NULL,
    baseline        REAL,
    peak_value      REAL,
    score           REAL,
    explanation     TEXT    NOT NULL DEFAULT '{}',
    provenance      TEXT    NOT NULL DEFAULT '{}',
    feedback        TEXT,
    first_raised_at INTEGER NOT NULL,
    -- Retracted because a row of `feedback` says that it was expected; what it is apart from that.
    expected_by     INTEGER,
    expected_status TEXT
) STRICT;
CREATE UNIQUE INDEX uq_anomalies_episode ON anomalies (coalesce(service, ''), anomaly_type, first_raised_at);
CREATE INDEX idx_anomalies_detected_at ON anomalies (detected_at);
CREATE INDEX idx_anomalies_service_started_at ON anomalies (service, started_at);
CREATE INDEX idx_anomalies_unsettled ON anomalies (coalesce(ended_at, last_seen));
CREATE INDEX idx_anomalies_status ON anomalies (status, detected_at);
CREATE INDEX idx_anomalies_expected_by ON anomalies (expected_by) WHERE expected_by IS NOT NULL;

CREATE TABLE hourly_metrics (
    id            INTEGER PRIMARY KEY,
    hour          INTEGER NOT NULL,
    service       TEXT    NOT NULL,
    log_count     INTEGER NOT NULL DEFAULT 0,
    error_count   INTEGER NOT NULL DEFAULT 0,
    anomaly_count INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (hour, service)
) STRICT;

CREATE TABLE anomaly_events (
    seq        INTEGER PRIMARY KEY,
    anomaly_id INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    status     TEXT    NOT NULL,
    reason     TEXT,
    clock      INTEGER NOT NULL,
    episode    TEXT    NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX idx_anomaly_events_anomaly_id ON anomaly_events (anomaly_id);

-- What the newest decision of each episode rested on, for it to be made again. The detector is in hexadecimal.
CREATE TABLE anomaly_evidence (
    anomaly_id   INTEGER PRIMARY KEY REFERENCES anomalies (id),
    decision     TEXT NOT NULL,
    inputs       TEXT NOT NULL,
    detector     TEXT NOT NULL,
    offsets      TEXT NOT NULL,
    feedback_seq INTEGER NOT NULL
) STRICT;

-- What users said of anomalies, and which events they announced. SQLite has one writer at a time, so `seq` counts without a gap in the order of commits.
CREATE TABLE feedback (
    seq        INTEGER PRIMARY KEY,
    anomaly_id INTEGER REFERENCES anomalies (id),
    -- Of an undo: the event that it takes back.
    event      INTEGER REFERENCES feedback (seq),
    verdict    TEXT    NOT NULL CHECK (verdict IN ('expected', 'confirmed', 'undo', 'event')),
    -- JSON: which episodes are expected.
    applies    TEXT,
    note       TEXT,
    author     TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    CHECK (CASE verdict WHEN 'event' THEN anomaly_id IS NULL AND event IS NULL AND applies IS NOT NULL
           ELSE (anomaly_id IS NULL) <> (event IS NULL) END)
) STRICT;
CREATE INDEX idx_feedback_anomaly_id ON feedback (anomaly_id);
CREATE INDEX idx_feedback_event ON feedback (event) WHERE event IS NOT NULL;

-- Known events that were announced and not taken back.
CREATE VIEW calendar AS
    SELECT seq AS id, note AS name, applies, author, created_at FROM feedback AS f
    WHERE verdict = 'event' AND NOT EXISTS (SELECT 1 FROM feedback AS u WHERE u.event = f.seq);
CREATE TRIGGER feedback_show AFTER INSERT ON feedback BEGIN
    UPDATE anomalies SET feedback = nullif(NEW.verdict, 'undo') WHERE id = NEW.anomaly_id;
END;

CREATE TABLE dead_letters (
    id              INTEGER PRIMARY KEY,
    kafka_topic     TEXT    NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset    INTEGER NOT NULL,
    reason          TEXT    NOT NULL,
    detail          TEXT    NOT NULL,
    payload         BLOB    NOT NULL,
    created_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (kafka_topic, kafka_partition, kafka_offset)
) STRICT;

CREATE TABLE patterns (
    shape       INTEGER PRIMARY KEY,
    template_id INTEGER NOT NULL,
    template    TEXT NOT NULL,
    example     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX idx_patterns_template_id ON patterns (template_id);
CREATE TABLE pattern_counts (
    shape       INTEGER NOT NULL,
    service     TEXT NOT NULL,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    log_count   INTEGER NOT NULL DEFAULT 0,
    error_count INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (shape, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE sink_positions (
    sink           TEXT    NOT NULL,
    topic          TEXT    NOT NULL,
    partition      INTEGER NOT NULL,
    next_offset    INTEGER,
    holder         INTEGER,
    record_time_ms INTEGER,
    payload_hash   INTEGER,
    watermark_us   INTEGER,
    lane           TEXT,
    updated_at     INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (sink, topic, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE retention_cuts (
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    from_offset INTEGER NOT NULL,
    before_us   INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, from_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE pipeline_state (
    pipeline         TEXT    PRIMARY KEY,
    identity         TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    sequence         INTEGER NOT NULL,
    holder           INTEGER,
    event_seq        INTEGER NOT NULL,
    feedback_seq     INTEGER NOT NULL DEFAULT 0,
    epoch            INTEGER NOT NULL,
    clock_us         INTEGER,
    watermark_us     INTEGER,
    wall_us          INTEGER,
    partition_clocks TEXT    NOT NULL DEFAULT '[]',
    updated_at       INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT, WITHOUT ROWID;

CREATE TABLE window_state (
    second        INTEGER NOT NULL,
    service       TEXT    NOT NULL,
    logs          INTEGER NOT NULL,
    errors        INTEGER NOT NULL,
    message_chars INTEGER NOT NULL,
    PRIMARY KEY (second, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE minute_state (
    minute  INTEGER NOT NULL,
    service TEXT   NOT NULL,
    counts  BLOB  NOT NULL,
    PRIMARY KEY (minute, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE baseline_state (
    service        TEXT PRIMARY KEY,
    state          BLOB NOT NULL,
    -- Minutes in the baseline, and from how many on it is trusted; NULL until the first minute is over.
    known_minutes  INTEGER,
    needed_minutes INTEGER
) STRICT, WITHOUT ROWID;
-- The few services that the API says it of, among as many as there are.
CREATE INDEX idx_baseline_state_warming_up ON baseline_state (service) WHERE known_minutes < needed_minutes;

-- What was exported: docs/EXPORT.md. Dates are UTC, as YYYY-MM-DD; times are microseconds.
CREATE TABLE export_files (
    target           TEXT    NOT NULL,
    date             TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    generation       INTEGER NOT NULL,
    topic            TEXT,
    partition        INTEGER,
    first_offset     INTEGER,
    next_offset      INTEGER,
    rows             INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    row_checksum     TEXT    NOT NULL,
    min_timestamp_us INTEGER NOT NULL,
    max_timestamp_us INTEGER NOT NULL,
    created_us       INTEGER NOT NULL,
    completed_us     INTEGER,
    deleted_us       INTEGER,
    PRIMARY KEY (target, date, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_export_files_intended ON export_files (topic, partition) WHERE status = 'intended';

CREATE TABLE export_days (
    target            TEXT    NOT NULL,
    date              TEXT    NOT NULL,
    generation        INTEGER NOT NULL DEFAULT 0,
    revision          INTEGER NOT NULL DEFAULT 0,
    manifest_revision INTEGER NOT NULL DEFAULT 0,
    manifest_version  INTEGER NOT NULL DEFAULT 0,
    success_version   INTEGER NOT NULL DEFAULT 0,
    closed            INTEGER NOT NULL DEFAULT 0,
    covered           TEXT    NOT NULL DEFAULT '[]',
    PRIMARY KEY (target, date)
) STRICT, WITHOUT ROWID;

CREATE TABLE export_usage (
    target            TEXT    NOT NULL,
    day               TEXT    NOT NULL,
    puts              INTEGER NOT NULL DEFAULT 0,
    gets              INTEGER NOT NULL DEFAULT 0,
    deletes           INTEGER NOT NULL DEFAULT 0,
    bytes_uploaded    INTEGER NOT NULL DEFAULT 0,
    multipart_aborted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (target, day)
) STRICT, WITHOUT ROWID;

-- What the cloud part used, as it was measured where it happened.
CREATE TABLE export_listings (
    target    TEXT    PRIMARY KEY,
    objects   INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    listed_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE function_usage (
    day         TEXT    PRIMARY KEY,
    invocations REAL    NOT NULL,
    failures    REAL    NOT NULL,
    gb_seconds  REAL    NOT NULL,
    read_units  REAL    NOT NULL,
    write_units REAL    NOT NULL,
    read_us     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What models said: the highest score of each minute; times in microseconds.
CREATE TABLE window_scores (
    minute          INTEGER NOT NULL,
    service         TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    score           REAL    NOT NULL,
    threshold       REAL    NOT NULL,
    alert_threshold REAL    NOT NULL,
    model_version   TEXT    NOT NULL,
    would_raise     INTEGER,
    PRIMARY KEY (minute, service, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_window_scores_service ON window_scores (service, minute);

CREATE TABLE model_swaps (
    role       TEXT    NOT NULL,
    effective  INTEGER NOT NULL,
    version    TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (role, effective)
) STRICT, WITHOUT ROWID;

CREATE TABLE model_status (
    pipeline   TEXT    PRIMARY KEY,
    state      TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    registry   TEXT    NOT NULL,
    models     TEXT    NOT NULL,
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT, WITHOUT ROWID;

-- What webhooks are told: docs/ALERTS.md. Times are microseconds of the wall clock.
CREATE TABLE alert_outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    hook         TEXT    NOT NULL,
    event_seq    INTEGER NOT NULL,
    anomaly_id   INTEGER NOT NULL,
    phase        TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    due_us       INTEGER NOT NULL,
    notice       TEXT    NOT NULL,
    message_key  TEXT,
    external_ref TEXT,
    attempts     INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT,
    created_us   INTEGER NOT NULL,
    sent_us      INTEGER,
    UNIQUE (hook, event_seq)
) STRICT;
CREATE INDEX idx_alert_outbox_pending ON alert_outbox (hook, id) WHERE status = 'pending';
CREATE INDEX idx_alert_outbox_anomaly_id ON alert_outbox (anomaly_id);
