CREATE TABLE analytics.messages (
    message_id BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    sent_time_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Derived from the messages, so that a look-up reads one row however many there are.
CREATE TABLE analytics.users (
    user_id TEXT PRIMARY KEY,
    message_count INTEGER NOT NULL,
    last_message_time_us INTEGER
) STRICT, WITHOUT ROWID;
