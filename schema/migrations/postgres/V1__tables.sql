-- The tables of docs/STATE.md for PostgreSQL.

-- Partitions are made by the program, one a day (UTC), when the first log of that day comes.
CREATE TABLE logs (
    id              BIGSERIAL,
    timestamp       TIMESTAMPTZ  NOT NULL,
    level           VARCHAR(10)  NOT NULL,
    service         VARCHAR(100) NOT NULL,
    host            VARCHAR(100),
    message         TEXT,
    metadata        JSONB,
    created_at      TIMESTAMPTZ  NOT NULL DEFAULT now(),
    kafka_topic     TEXT         NOT NULL,
    kafka_partition INTEGER      NOT NULL,
    kafka_offset    BIGINT       NOT NULL,
    shape           BIGINT,
    PRIMARY KEY (id, timestamp)
) PARTITION BY RANGE (timestamp);
CREATE INDEX idx_logs_timestamp ON logs (timestamp);
CREATE INDEX idx_logs_service ON logs (service);

CREATE TABLE anomalies (
    id              BIGSERIAL PRIMARY KEY,
    detected_at     TIMESTAMPTZ NOT NULL,
    anomaly_type    VARCHAR(50) NOT NULL,
    service         VARCHAR(100),
    severity        VARCHAR(20),
    description     TEXT,
    metric_value    DOUBLE PRECISION,
    threshold       DOUBLE PRECISION,
    model_version   VARCHAR(50),
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at      TIMESTAMPTZ NOT NULL,
    last_seen       TIMESTAMPTZ NOT NULL,
    ended_at        TIMESTAMPTZ,
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    status          VARCHAR(20) NOT NULL,
    revision        INTEGER     NOT NULL,
    baseline        DOUBLE PRECISION,
    peak_value      DOUBLE PRECISION,
    score           DOUBLE PRECISION,
    explanation     JSON        NOT NULL DEFAULT '{}',
    provenance      JSON        NOT NULL DEFAULT '{}',
    feedback        TEXT,
    first_raised_at TIMESTAMPTZ NOT NULL,
    -- Retracted because a row of `feedback` says that it was expected; what it is apart from that.
    expected_by     BIGINT,
    expected_status VARCHAR(20)
);
CREATE UNIQUE INDEX uq_anomalies_episode ON anomalies (coalesce(service, ''), anomaly_type, first_raised_at);
CREATE INDEX idx_anomalies_detected_at ON anomalies (detected_at);
CREATE INDEX idx_anomalies_service_started_at ON anomalies (service, started_at);
CREATE INDEX idx_anomalies_unsettled ON anomalies (coalesce(ended_at, last_seen));
CREATE INDEX idx_anomalies_status ON anomalies (status, detected_at);
CREATE INDEX idx_anomalies_expected_by ON anomalies (expected_by) WHERE expected_by IS NOT NULL;

CREATE TABLE hourly_metrics (
    id            BIGSERIAL PRIMARY KEY,
    hour          TIMESTAMPTZ  NOT NULL,
    service       VARCHAR(100) NOT NULL,
    log_count     BIGINT       NOT NULL DEFAULT 0,
    error_count   BIGINT       NOT NULL DEFAULT 0,
    anomaly_count BIGINT       NOT NULL DEFAULT 0,
    created_at    TIMESTAMPTZ  NOT NULL DEFAULT now(),
    UNIQUE (hour, service)
) WITH (fillfactor = 70);

CREATE TABLE anomaly_events (
    seq        BIGINT PRIMARY KEY,
    anomaly_id BIGINT      NOT NULL,
    kind       VARCHAR(20) NOT NULL,
    revision   INTEGER     NOT NULL,
    status     VARCHAR(20) NOT NULL,
    reason     TEXT,
    clock      TIMESTAMPTZ NOT NULL,
    episode    JSON        NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_anomaly_events_anomaly_id ON anomaly_events (anomaly_id);

-- What the newest decision of each episode rested on, for it to be made again. The detector is in hexadecimal.
CREATE TABLE anomaly_evidence (
    anomaly_id   BIGINT PRIMARY KEY REFERENCES anomalies (id),
    decision     TEXT NOT NULL,
    inputs       TEXT NOT NULL,
    detector     TEXT NOT NULL,
    offsets      TEXT NOT NULL,
    feedback_seq BIGINT NOT NULL
);

-- What users said of anomalies, and which events they announced. `seq` counts without a gap in the order of commits, so that a reader of `seq > n` misses
-- nothing; the triggers run as the owner, so that whoever may only insert here needs no other right.
CREATE TABLE feedback (
    seq        BIGINT PRIMARY KEY,
    anomaly_id BIGINT       REFERENCES anomalies (id),
    -- Of an undo: the event that it takes back.
    event      BIGINT       REFERENCES feedback (seq),
    verdict    VARCHAR(20)  NOT NULL CHECK (verdict IN ('expected', 'confirmed', 'undo', 'event')),
    -- JSON: which episodes are expected.
    applies    TEXT,
    note       TEXT,
    author     VARCHAR(100),
    created_at TIMESTAMPTZ  NOT NULL DEFAULT now(),
    CHECK (CASE verdict WHEN 'event' THEN num_nonnulls(anomaly_id, event) = 0 AND applies IS NOT NULL
           ELSE num_nonnulls(anomaly_id, event) = 1 END)
);
CREATE INDEX idx_feedback_anomaly_id ON feedback (anomaly_id);
CREATE INDEX idx_feedback_event ON feedback (event) WHERE event IS NOT NULL;

-- Known events that were announced and not taken back.
CREATE VIEW calendar AS
    SELECT seq AS id, note AS name, applies, author, created_at FROM feedback AS f
    WHERE verdict = 'event' AND NOT EXISTS (SELECT 1 FROM feedback AS u WHERE u.event = f.seq);

CREATE FUNCTION feedback_number() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('smartlog feedback', 0));
    NEW.seq := (SELECT coalesce(max(seq), 0) + 1 FROM feedback);
    RETURN NEW;
END $$;
CREATE TRIGGER feedback_number BEFORE INSERT ON feedback FOR EACH ROW EXECUTE FUNCTION feedback_number();

CREATE FUNCTION feedback_show() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE anomalies SET feedback = nullif(NEW.verdict, 'undo') WHERE id = NEW.anomaly_id;
    RETURN NULL;
END $$;
CREATE TRIGGER feedback_show AFTER INSERT ON feedback FOR EACH ROW EXECUTE FUNCTION feedback_show();

CREATE TABLE dead_letters (
    id              BIGSERIAL PRIMARY KEY,
    kafka_topic     TEXT        NOT NULL,
    kafka_partition INTEGER     NOT NULL,
    kafka_offset    BIGINT      NOT NULL,
    reason          VARCHAR(50) NOT NULL,
    detail          TEXT        NOT NULL,
    payload         BYTEA       NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (kafka_topic, kafka_partition, kafka_offset)
);
CREATE INDEX idx_dead_letters_created_at ON dead_letters (created_at);

CREATE TABLE patterns (
    shape       BIGINT PRIMARY KEY,
    template_id BIGINT NOT NULL,
    template    TEXT NOT NULL,
    example     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX idx_patterns_template_id ON patterns (template_id);
CREATE TABLE pattern_counts (
    shape       BIGINT NOT NULL,
    service     TEXT NOT NULL,
    first_seen  TIMESTAMPTZ NOT NULL,
    last_seen   TIMESTAMPTZ NOT NULL,
    log_count   BIGINT NOT NULL DEFAULT 0,
    error_count BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (shape, service)
) WITH (fillfactor = 70);

-- The state tables are small and rewritten many times a second: room on the page keeps updates off the indexes.
CREATE TABLE sink_positions (
    sink           TEXT        NOT NULL,
    topic          TEXT        NOT NULL,
    partition      INTEGER     NOT NULL,
    next_offset    BIGINT,
    holder         BIGINT,
    record_time_ms BIGINT,
    payload_hash   BIGINT,
    watermark_us   BIGINT,
    lane           VARCHAR(10),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
) WITH (fillfactor = 20);

CREATE TABLE retention_cuts (
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    from_offset BIGINT  NOT NULL,
    before_us   BIGINT  NOT NULL,
    PRIMARY KEY (topic, partition, from_offset)
);

CREATE TABLE pipeline_state (
    pipeline         TEXT PRIMARY KEY,
    identity         TEXT        NOT NULL DEFAULT gen_random_uuid()::text,
    sequence         BIGINT      NOT NULL,
    holder           BIGINT,
    event_seq        BIGINT      NOT NULL,
    feedback_seq     BIGINT      NOT NULL DEFAULT 0,
    epoch            BIGINT      NOT NULL,
    clock_us         BIGINT,
    watermark_us     BIGINT,
    wall_us          BIGINT,
    partition_clocks JSON        NOT NULL DEFAULT '[]',
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

CREATE TABLE window_state (
    second        BIGINT NOT NULL,
    service       TEXT   NOT NULL,
    logs          BIGINT NOT NULL,
    errors        BIGINT NOT NULL,
    message_chars BIGINT NOT NULL,
    PRIMARY KEY (second, service)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE minute_state (
    minute  BIGINT NOT NULL,
    service TEXT   NOT NULL,
    counts  BYTEA  NOT NULL,
    PRIMARY KEY (minute, service)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE baseline_state (
    service        TEXT   PRIMARY KEY,
    state          BYTEA  NOT NULL,
    -- Minutes in the baseline, and from how many on it is trusted; NULL until the first minute is over.
    known_minutes  BIGINT,
    needed_minutes BIGINT
) WITH (fillfactor = 70);
-- The few services that the API says it of, among as many as there are.
CREATE INDEX idx_baseline_state_warming_up ON baseline_state (service) WHERE known_minutes < needed_minutes;

-- What was exported: docs/EXPORT.md. Dates are UTC, as YYYY-MM-DD; times are microseconds.
CREATE TABLE export_files (
    target           TEXT   NOT NULL,
    date             TEXT   NOT NULL,
    name             TEXT   NOT NULL,
    status           TEXT   NOT NULL,
    generation       BIGINT NOT NULL,
    topic            TEXT,
    partition        INTEGER,
    first_offset     BIGINT,
    next_offset      BIGINT,
    rows             BIGINT NOT NULL,
    bytes            BIGINT NOT NULL,
    row_checksum     TEXT   NOT NULL,
    min_timestamp_us BIGINT NOT NULL,
    max_timestamp_us BIGINT NOT NULL,
    created_us       BIGINT NOT NULL,
    completed_us     BIGINT,
    deleted_us       BIGINT,
    PRIMARY KEY (target, date, name)
);
CREATE INDEX idx_export_files_intended ON export_files (topic, partition) WHERE status = 'intended';

CREATE TABLE export_days (
    target            TEXT   NOT NULL,
    date              TEXT   NOT NULL,
    generation        BIGINT NOT NULL DEFAULT 0,
    revision          BIGINT NOT NULL DEFAULT 0,
    manifest_revision BIGINT NOT NULL DEFAULT 0,
    manifest_version  BIGINT NOT NULL DEFAULT 0,
    success_version   BIGINT NOT NULL DEFAULT 0,
    closed            BIGINT NOT NULL DEFAULT 0,
    covered           TEXT   NOT NULL DEFAULT '[]',
    PRIMARY KEY (target, date)
);

CREATE TABLE export_usage (
    target            TEXT   NOT NULL,
    day               TEXT   NOT NULL,
    puts              BIGINT NOT NULL DEFAULT 0,
    gets              BIGINT NOT NULL DEFAULT 0,
    deletes           BIGINT NOT NULL DEFAULT 0,
    bytes_uploaded    BIGINT NOT NULL DEFAULT 0,
    multipart_aborted BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (target, day)
);

-- What the cloud part used, as it was measured where it happened.
CREATE TABLE export_listings (
    target    TEXT   PRIMARY KEY,
    objects   BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    listed_us BIGINT NOT NULL
);

CREATE TABLE function_usage (
    day         TEXT             PRIMARY KEY,
    invocations DOUBLE PRECISION NOT NULL,
    failures    DOUBLE PRECISION NOT NULL,
    gb_seconds  DOUBLE PRECISION NOT NULL,
    read_units  DOUBLE PRECISION NOT NULL,
    write_units DOUBLE PRECISION NOT NULL,
    read_us     BIGINT           NOT NULL
);

-- What models said: the highest score of each minute.
CREATE TABLE window_scores (
    minute          TIMESTAMPTZ      NOT NULL,
    service         TEXT             NOT NULL,
    role            VARCHAR(20)      NOT NULL,
    score           DOUBLE PRECISION NOT NULL,
    threshold       DOUBLE PRECISION NOT NULL,
    alert_threshold DOUBLE PRECISION NOT NULL,
    model_version   VARCHAR(50)      NOT NULL,
    would_raise     TIMESTAMPTZ,
    PRIMARY KEY (minute, service, role)
) WITH (fillfactor = 70);
CREATE INDEX idx_window_scores_service ON window_scores (service, minute);

CREATE TABLE model_swaps (
    role       VARCHAR(20)  NOT NULL,
    effective  TIMESTAMPTZ  NOT NULL,
    version    VARCHAR(50)  NOT NULL,
    digest     TEXT         NOT NULL,
    created_at TIMESTAMPTZ  NOT NULL DEFAULT now(),
    PRIMARY KEY (role, effective)
);

CREATE TABLE model_status (
    pipeline   TEXT        PRIMARY KEY,
    state      VARCHAR(20) NOT NULL,
    detail     TEXT        NOT NULL,
    registry   TEXT        NOT NULL,
    models     JSON        NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What webhooks are told: docs/ALERTS.md. Times are microseconds of the wall clock.
CREATE TABLE alert_outbox (
    id           BIGSERIAL PRIMARY KEY,
    hook         TEXT    NOT NULL,
    event_seq    BIGINT  NOT NULL,
    anomaly_id   BIGINT  NOT NULL,
    phase        TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    due_us       BIGINT  NOT NULL,
    notice       TEXT    NOT NULL,
    message_key  TEXT,
    external_ref TEXT,
    attempts     INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT,
    created_us   BIGINT  NOT NULL,
    sent_us      BIGINT,
    UNIQUE (hook, event_seq)
);
CREATE INDEX idx_alert_outbox_pending ON alert_outbox (hook, id) WHERE status = 'pending';
CREATE INDEX idx_alert_outbox_anomaly_id ON alert_outbox (anomaly_id);
