-- Events as they were audited, and what was found wrong with chains (`finding`). `bytes` is what the chain hashed; every other
-- column is read from it, or tells where it stands. Partitions are months of arrival, so that an insert is one part: it is
-- there whole, or not at all.
CREATE TABLE IF NOT EXISTS mcp.events (
    arrived UInt64 CODEC(DoubleDelta, ZSTD(1)) COMMENT 'When it was taken, nanoseconds since 1970, and unique: the order of pages',
    time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    finding Bool,
    proxy LowCardinality(String),
    worker UInt32,
    epoch UInt64 CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'Of a finding: the first sequence concerned',
    seq_to UInt64 CODEC(ZSTD(1)) COMMENT 'Of a finding: the last sequence concerned',
    missing UInt64 CODEC(ZSTD(1)) COMMENT 'Of a finding: events missing',
    hash FixedString(32) CODEC(NONE),
    prev_hash String CODEC(ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    source LowCardinality(String),
    event_type LowCardinality(String),
    phase LowCardinality(String),
    decision_seq UInt64 CODEC(ZSTD(1)),
    dropped_before UInt64 CODEC(ZSTD(1)),
    server LowCardinality(String),
    namespace LowCardinality(String),
    team_id LowCardinality(String),
    cluster LowCardinality(String),
    rollout_track LowCardinality(String),
    human_id String CODEC(ZSTD(1)),
    agent_id String CODEC(ZSTD(1)),
    subject_team_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    http_method LowCardinality(String),
    path String CODEC(ZSTD(1)),
    rpc_method LowCardinality(String),
    tool_name LowCardinality(String),
    target String CODEC(ZSTD(1)),
    rpc_id String CODEC(ZSTD(1)),
    era LowCardinality(String),
    protocol_version LowCardinality(String),
    arguments_digest String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    mcp_session_id String CODEC(ZSTD(1)),
    decision LowCardinality(String),
    reason LowCardinality(String),
    would_deny LowCardinality(String),
    policy_version LowCardinality(String),
    required_trust LowCardinality(String),
    admin_trust LowCardinality(String),
    consented_trust LowCardinality(String),
    effective_trust LowCardinality(String),
    required_side_effect LowCardinality(String),
    risk_level LowCardinality(String),
    matched_grant LowCardinality(String),
    matched_session String CODEC(ZSTD(1)),
    status UInt32,
    latency_micros UInt64 CODEC(ZSTD(1)),
    bytes_in UInt64 CODEC(ZSTD(1)),
    bytes_out UInt64 CODEC(ZSTD(1)),
    cut Bool,
    bytes String CODEC(ZSTD(1)),
    INDEX arrived_range arrived TYPE minmax GRANULARITY 1,
    INDEX chain_epoch epoch TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX chain_seq seq TYPE minmax GRANULARITY 1,
    PROJECTION chain_ranges (
        SELECT proxy, worker, epoch, finding, min(seq), max(seq), count(), max(arrived)
        GROUP BY proxy, worker, epoch, finding
    )
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(toInt64(arrived), 'UTC'))
PRIMARY KEY (namespace, server, time)
ORDER BY (namespace, server, time, proxy, worker, epoch, seq, event_type, seq_to)
SETTINGS non_replicated_deduplication_window = 10000, deduplicate_merge_projection_mode = 'rebuild';

-- Where each chain stands; kept when its events are gone for age.
CREATE TABLE IF NOT EXISTS mcp.chains (
    proxy String,
    worker UInt32,
    epoch UInt64,
    last_seq SimpleAggregateFunction(max, UInt64),
    hash AggregateFunction(argMax, FixedString(32), UInt64),
    events SimpleAggregateFunction(sum, UInt64),
    last_arrived SimpleAggregateFunction(max, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (proxy, worker, epoch)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS mcp.chains_of_events TO mcp.chains AS
SELECT proxy, worker, epoch, max(seq) AS last_seq, argMaxState(hash, seq) AS hash, count() AS events,
    max(arrived) AS last_arrived
FROM mcp.events WHERE NOT finding GROUP BY proxy, worker, epoch;

-- What was used, by hour; kept when its events are gone for age.
CREATE TABLE IF NOT EXISTS mcp.usage_hourly (
    hour DateTime('UTC'),
    namespace LowCardinality(String),
    server LowCardinality(String),
    team_id LowCardinality(String),
    tool_name LowCardinality(String),
    finding Bool,
    events UInt64,
    allowed UInt64,
    denied UInt64,
    missing UInt64,
    bytes_in UInt64,
    bytes_out UInt64
)
ENGINE = SummingMergeTree((events, allowed, denied, missing, bytes_in, bytes_out))
ORDER BY (hour, namespace, server, team_id, tool_name, finding)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS mcp.usage_of_events TO mcp.usage_hourly AS
SELECT toStartOfHour(time) AS hour, namespace, server, team_id, tool_name, finding, count() AS events,
    countIf(decision = 'allow') AS allowed, countIf(decision = 'deny') AS denied, sum(missing) AS missing,
    sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
FROM mcp.events GROUP BY hour, namespace, server, team_id, tool_name, finding;

-- Signed checkpoints; those before the `first` of the newest count as removed.
CREATE TABLE IF NOT EXISTS mcp.checkpoints (
    sequence UInt64,
    time DateTime64(9, 'UTC'),
    first UInt64,
    bytes String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY sequence;
