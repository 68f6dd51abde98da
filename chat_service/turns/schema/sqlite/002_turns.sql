CREATE TABLE chat.turns (
    seq INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    session_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    end_time TEXT NOT NULL,
    prompt TEXT NOT NULL,
    reply TEXT NOT NULL,
    stopped INTEGER NOT NULL,
    items TEXT NOT NULL
) STRICT;
CREATE INDEX chat.turns_of_conversation ON turns (user_id, session_id, seq);
-- Derived from the turns, so that a user's list reads none of them.
CREATE TABLE chat.conversations (
    user_id TEXT NOT NULL,
    session_id BLOB NOT NULL,
    title TEXT NOT NULL,
    update_time TEXT NOT NULL,
    turn_count INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (user_id, session_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX chat.latest_conversations ON conversations (user_id, last_seq);
