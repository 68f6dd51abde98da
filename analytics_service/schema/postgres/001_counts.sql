-- Collation "C" orders user ids by code point: fast, and the same everywhere.
CREATE TABLE analytics.messages (
    message_id uuid PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    sent_time timestamptz NOT NULL
);
CREATE TABLE analytics.users (
    user_id text COLLATE "C" PRIMARY KEY,
    message_count bigint NOT NULL,
    last_message_time timestamptz
);
CREATE TABLE analytics.activity (
    user_id text COLLATE "C",
    day date,
    message_count bigint NOT NULL,
    PRIMARY KEY (user_id, day)
);
