-- A store as version 2 made it.
PRAGMA journal_mode = WAL;
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
);
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
);
CREATE INDEX probe_of_target ON probe (target, started);
CREATE TABLE incident (
    id             TEXT PRIMARY KEY,
    target         INTEGER NOT NULL,
    opened         INTEGER NOT NULL,
    closed         INTEGER,
    verdict        TEXT,
    verdict_reason TEXT,
    provisional    INTEGER
) WITHOUT ROWID;
CREATE INDEX incident_of_target ON incident (target, opened);
PRAGMA user_version = 2;
INSERT INTO target VALUES (1,'weather','https://weather.example/mcp','legacy','down',1700000300000000000,'http','http_status','HTTP 503 Service Unavailable',1700000360000000000,x'000102030405060708090a0b0c0d0e0f','open1','weather-mcp',1);
INSERT INTO target VALUES (2,'files','npx files','modern','up',1700000000000000000,NULL,NULL,NULL,1700000360000000000,x'100102030405060708090a0b0c0d0e0f',NULL,NULL,0);
INSERT INTO probe VALUES (1,1,1700000240000000000,41000000,'up',x'200102030405060708090a0b0c0d0e0f',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO probe VALUES (2,1,1700000300000000000,42000000,'down',x'300102030405060708090a0b0c0d0e0f','http','http_status','HTTP 502 Bad Gateway',502,NULL,'[]');
INSERT INTO probe VALUES (3,1,1700000360000000000,43000000,'down',x'000102030405060708090a0b0c0d0e0f','http','http_status','HTTP 503 Service Unavailable',503,NULL,'[]');
INSERT INTO incident VALUES ('ended1',2,1690000000000000000,1690000060000000000,'application','it got our request and failed',0);
INSERT INTO incident VALUES ('open1',1,1700000300000000000,NULL,'infrastructure','no-trace pattern',1);
