CREATE TABLE chat.outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    sent_time TEXT NOT NULL
) STRICT;
