-- A store as version 3 made it.
CREATE TABLE acknowledgement (
    incident TEXT PRIMARY KEY,
    at       INTEGER NOT NULL,
    by       TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE conversation (
    incident TEXT PRIMARY KEY,
    text     TEXT NOT NULL
);
CREATE TABLE daily (
    target   INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    up       INTEGER NOT NULL,
    degraded INTEGER NOT NULL,
    failed   INTEGER NOT NULL,
    unknown  INTEGER NOT NULL,
    reasons  TEXT,
    latency  BLOB NOT NULL,
    PRIMARY KEY (target, start)
) WITHOUT ROWID;
CREATE TABLE fact (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE hourly (
    target   INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    up       INTEGER NOT NULL,
    degraded INTEGER NOT NULL,
    failed   INTEGER NOT NULL,
    unknown  INTEGER NOT NULL,
    reasons  TEXT,
    latency  BLOB NOT NULL,
    PRIMARY KEY (target, start)
) WITHOUT ROWID;
CREATE TABLE incident (
    id             TEXT PRIMARY KEY,
    server         TEXT,
    kind           TEXT NOT NULL,
    severity       TEXT NOT NULL,
    state          TEXT NOT NULL,
    failed_layer   TEXT,
    reason         TEXT,
    message        TEXT NOT NULL,
    trace          BLOB,
    first_failed   INTEGER NOT NULL,
    opened         INTEGER NOT NULL,
    resolved       INTEGER,
    resolution     TEXT,
    flapping       INTEGER NOT NULL DEFAULT 0,
    suppressed     TEXT,
    verdict        TEXT,
    verdict_reason TEXT,
    provisional    INTEGER
) WITHOUT ROWID;
INSERT INTO "incident" VALUES('ended1','files','outage','critical','down',NULL,NULL,'',NULL,1690000000000000000,1690000000000000000,1690000060000000000,'recovered',0,NULL,'application','it got our request and failed',0);
INSERT INTO "incident" VALUES('open1','weather','outage','critical','down','http','http_status','HTTP 502 Bad Gateway',X'300102030405060708090A0B0C0D0E0F',1700000300000000000,1700000300000000000,NULL,NULL,0,NULL,'infrastructure','no-trace pattern',1);
CREATE TABLE notice (
    incident      TEXT NOT NULL,
    channel       TEXT NOT NULL,
    sequence      INTEGER NOT NULL,
    event         TEXT NOT NULL,
    created       INTEGER NOT NULL,
    due           INTEGER NOT NULL,
    body          TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    delivered     INTEGER,
    given_up      INTEGER,
    last_error    TEXT,
    PRIMARY KEY (incident, channel, sequence)
) WITHOUT ROWID;
CREATE TABLE probe (
    id               INTEGER PRIMARY KEY,
    target           INTEGER NOT NULL,
    started          INTEGER NOT NULL,
    duration         INTEGER NOT NULL,
    state            TEXT NOT NULL,
    trace            BLOB NOT NULL,
    layer            TEXT,
    reason           TEXT,
    message          TEXT,
    http_status      INTEGER,
    jsonrpc_code     INTEGER,
    operations       TEXT
, layers BLOB, flags INTEGER NOT NULL DEFAULT 0);
INSERT INTO "probe" VALUES(1,1,1700000240000000000,41000000,'up',X'200102030405060708090A0B0C0D0E0F',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "probe" VALUES(2,1,1700000300000000000,42000000,'down',X'300102030405060708090A0B0C0D0E0F','http','http_status','HTTP 502 Bad Gateway',502,NULL,'[]',NULL,0);
INSERT INTO "probe" VALUES(3,1,1700000360000000000,43000000,'down',X'000102030405060708090A0B0C0D0E0F','http','http_status','HTTP 503 Service Unavailable',503,NULL,'[]',NULL,0);
CREATE TABLE silence (
    id      TEXT PRIMARY KEY,
    servers TEXT NOT NULL,
    tags    TEXT NOT NULL,
    starts  INTEGER NOT NULL,
    ends    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    by      TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE target (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    endpoint     TEXT NOT NULL,
    dialect      TEXT,
    state        TEXT NOT NULL DEFAULT 'unknown',
    since        INTEGER,
    failed_layer TEXT,
    reason       TEXT,
    message      TEXT,
    last_probe   INTEGER,
    trace        BLOB,
    incident     TEXT,
    service      TEXT,
    instrumented INTEGER NOT NULL DEFAULT 0
, suspect INTEGER NOT NULL DEFAULT 0, alert TEXT);
INSERT INTO "target" VALUES(1,'weather','https://weather.example/mcp','legacy','down',1700000300000000000,'http','http_status','HTTP 503 Service Unavailable',1700000360000000000,X'000102030405060708090A0B0C0D0E0F','open1','weather-mcp',1,0,NULL);
INSERT INTO "target" VALUES(2,'files','npx files','modern','up',1700000000000000000,NULL,NULL,NULL,1700000360000000000,X'100102030405060708090A0B0C0D0E0F',NULL,NULL,0,0,NULL);
CREATE TABLE timeline (
    id       INTEGER PRIMARY KEY,
    incident TEXT NOT NULL,
    at       INTEGER NOT NULL,
    what     TEXT NOT NULL,
    text     TEXT NOT NULL
);
CREATE INDEX probe_of_target ON probe (target, started);
CREATE INDEX incident_of_server ON incident (server, first_failed);
CREATE INDEX incident_by_time ON incident (first_failed);
CREATE INDEX incident_open ON incident (kind) WHERE resolved IS NULL;
CREATE INDEX timeline_of_incident ON timeline (incident);
CREATE INDEX notice_undelivered ON notice (created) WHERE delivered IS NULL AND given_up IS NULL;
CREATE INDEX notice_given_up ON notice (given_up) WHERE given_up IS NOT NULL;
PRAGMA user_version = 3;
