-- Times become microseconds since 1970, a turn keeps each text once, and a message that analytics
-- refuses is marked. Nothing is owned by a process any more.
-- A time's whole seconds and microseconds are read separately, as SQLite would round it.

-- The outbox.
DROP INDEX chat.outbox_of_user;
ALTER TABLE chat.outbox RENAME TO outbox_before;
CREATE TABLE chat.outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    sent_time INTEGER NOT NULL,
    -- The traceparent of the message's chat, if it was traced.
    origin TEXT,
    refused INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX chat.outbox_of_user ON outbox (user_id);
INSERT INTO chat.outbox (seq, message_id, user_id, sent_time, origin)
SELECT seq, message_id, user_id,
    unixepoch(substr(sent_time, 1, 19)) * 1000000
        + CASE WHEN substr(sent_time, 20, 1) = '.' THEN CAST(substr(sent_time, 21, 6) AS INTEGER) ELSE 0 END,
    origin
FROM chat.outbox_before;
DROP TABLE chat.outbox_before;

-- The turns.
DROP INDEX chat.turns_of_conversation;
ALTER TABLE chat.turns RENAME TO turns_before;
CREATE TABLE chat.turns (
    seq INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    session_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    end_time INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    reply TEXT NOT NULL,
    stopped INTEGER NOT NULL,
    -- The calls of tools between prompt and reply, as JSON.
    steps TEXT NOT NULL,
    message_count INTEGER,
    model TEXT NOT NULL
) STRICT;
INSERT INTO chat.turns
SELECT seq, user_id, session_id, message_id,
    unixepoch(substr(end_time, 1, 19)) * 1000000
        + CASE WHEN substr(end_time, 20, 1) = '.' THEN CAST(substr(end_time, 21, 6) AS INTEGER) ELSE 0 END,
    prompt, reply, stopped,
    (
        SELECT json_group_array(json_object(
            'tool', call.value -> 'name',
            'arguments', call.value -> 'arguments',
            'output', json((
                SELECT answer.value -> 'output' FROM json_each(turns_before.items) AS answer
                WHERE answer.value ->> 'type' = 'function_call_output'
                    AND answer.value ->> 'call_id' = call.value ->> 'call_id'
            ))
        ))
        FROM json_each(turns_before.items) AS call
        WHERE call.value ->> 'type' = 'function_call'
    ),
    NULL, ''
FROM chat.turns_before;
DROP TABLE chat.turns_before;
CREATE INDEX chat.turns_of_conversation ON turns (user_id, session_id, seq);
-- Earlier versions kept a turn for each time that a message was sent. The latest keeps the id.
UPDATE chat.turns SET message_id = randomblob(16)
WHERE seq NOT IN (SELECT max(seq) FROM chat.turns GROUP BY user_id, message_id);
CREATE UNIQUE INDEX chat.turn_of_message ON turns (user_id, message_id);

-- The conversations.
DROP INDEX chat.latest_conversations;
ALTER TABLE chat.conversations RENAME TO conversations_before;
CREATE TABLE chat.conversations (
    user_id TEXT NOT NULL,
    session_id BLOB NOT NULL,
    title TEXT NOT NULL,
    update_time INTEGER NOT NULL,
    turn_count INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (user_id, session_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX chat.latest_conversations ON conversations (user_id, last_seq);
INSERT INTO chat.conversations
SELECT user_id, session_id, title,
    unixepoch(substr(update_time, 1, 19)) * 1000000
        + CASE WHEN substr(update_time, 20, 1) = '.' THEN CAST(substr(update_time, 21, 6) AS INTEGER) ELSE 0 END,
    turn_count, last_seq
FROM chat.conversations_before;
DROP TABLE chat.conversations_before;
