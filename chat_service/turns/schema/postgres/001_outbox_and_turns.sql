-- Texts are JSON strings here: PostgreSQL's own can't hold NUL, but a message may.
CREATE TABLE chat.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL UNIQUE,
    user_id text COLLATE "C" NOT NULL,
    sent_time timestamptz NOT NULL,
    owner bigint NOT NULL,
    origin text
);
CREATE INDEX outbox_of_owner ON chat.outbox (owner, seq);
CREATE INDEX outbox_of_user ON chat.outbox (user_id, sent_time);
CREATE TABLE chat.turns (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    session_id uuid NOT NULL,
    message_id uuid NOT NULL,
    end_time timestamptz NOT NULL,
    prompt json NOT NULL,
    reply json NOT NULL,
    stopped boolean NOT NULL,
    items json NOT NULL
);
CREATE INDEX turns_of_conversation ON chat.turns (user_id, session_id, seq);
CREATE TABLE chat.conversations (
    user_id text COLLATE "C",
    session_id uuid,
    title json NOT NULL,
    update_time timestamptz NOT NULL,
    turn_count bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
CREATE UNIQUE INDEX latest_conversations ON chat.conversations (user_id, last_seq);
