CREATE SCHEMA chat;
CREATE TABLE chat.conversations (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    title json NOT NULL,
    update_time timestamp with time zone NOT NULL,
    turn_count bigint NOT NULL,
    last_seq bigint NOT NULL
);
CREATE UNLOGGED TABLE chat.leases (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    holder bigint NOT NULL,
    end_time timestamp with time zone NOT NULL
);
CREATE TABLE chat.outbox (
    seq bigint NOT NULL,
    message_id uuid NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    sent_time timestamp with time zone NOT NULL,
    owner bigint NOT NULL,
    origin text
);
ALTER TABLE chat.outbox ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME chat.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE chat.turns (
    seq bigint NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    message_id uuid NOT NULL,
    end_time timestamp with time zone NOT NULL,
    prompt json NOT NULL,
    reply json NOT NULL,
    stopped boolean NOT NULL,
    items json NOT NULL
);
ALTER TABLE chat.turns ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME chat.turns_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE chat.version (
    version integer NOT NULL,
    oldest integer NOT NULL
);
INSERT INTO chat.conversations VALUES ('alice', '00000002-0000-4000-8000-000000000000', '"What time is it?"', '2026-01-31 00:00:01+00', 2, 4);
INSERT INTO chat.conversations VALUES ('alice', '00000001-0000-4000-8000-000000000000', '"My dog is called Rex"', '2026-01-31 00:00:08.5+00', 4, 7);
INSERT INTO chat.conversations VALUES ('alice', '00000003-0000-4000-8000-000000000000', '"NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00\u2026"', '2026-01-31 00:00:12.000001+00', 2, 9);
INSERT INTO chat.conversations VALUES ('bob', '00000004-0000-4000-8000-000000000000', '"Bob''s own, with Alice''s id"', '2026-01-31 00:00:17.000001+00', 3, 11);
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (5, '00000000-0000-4000-8000-000000000005', 'alice', '2026-01-31 00:00:03.5+00', 1143413241950370694, NULL);
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (6, '00000000-0000-4000-8000-000000000006', 'alice', '2026-01-31 00:00:09.9995+00', 1143413241950370694, '00-00000000000000000000000000000006-0000000000000006-01');
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (9, '00000000-0000-4000-8000-000000000007', 'alice', '2026-01-31 00:00:11+00', 1143413241950370694, NULL);
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (10, '00000000-0000-4000-8000-000000000008', 'alice', '2026-01-31 00:00:13.5+00', 1143413241950370694, '00-0000000000000000000000000000000a-000000000000000a-01');
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (11, '00000000-0000-4000-8000-000000000009', 'bob', '2026-01-31 00:00:14.9995+00', 1143413241950370694, NULL);
INSERT INTO chat.outbox OVERRIDING SYSTEM VALUE VALUES (12, '00000000-0000-4000-8000-000000000010', 'bob', '2026-01-31 00:00:16+00', 1143413241950370694, '00-0000000000000000000000000000000c-000000000000000c-01');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (1, 'alice', '00000001-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000001', '2026-01-30 23:59:52.000001+00', '"My dog is called Rex"', '"Hello, Rex''s friend"', false, '[{"role": "user", "content": "My dog is called Rex"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Hello, Rex''s friend", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (2, 'alice', '00000001-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '2026-01-30 23:59:55.999999+00', '"Nice weather"', '"Sunny"', false, '[{"role": "user", "content": "Nice weather"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Sunny", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (3, 'alice', '00000002-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000003', '2026-01-30 23:59:58.5+00', '"What time is it?"', '"It is noon"', false, '[{"role": "user", "content": "What time is it?"}, {"id": "rs_0a1b", "summary": [{"text": "The user wants \u0000 the time", "type": "summary_text"}], "type": "reasoning"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Let me see", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}, {"arguments": "{}", "call_id": "call_Xy1", "name": "get_current_time", "type": "function_call", "id": "call_Xy1"}, {"arguments": "{\"note\":\"\\u0000 \u00fc \\\\\"}", "call_id": "call_Xy2", "name": "get_current_time", "type": "function_call", "id": "call_Xy2"}, {"call_id": "call_Xy1", "output": "2026-11-26T01:39:00+00:00", "type": "function_call_output"}, {"call_id": "call_Xy2", "output": "2026-11-26T01:39:00+00:00", "type": "function_call_output"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "It is noon", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (4, 'alice', '00000002-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000004', '2026-01-31 00:00:01+00', '"And now?"', '"Still noon"', false, '[{"role": "user", "content": "And now?"}, {"arguments": "{}", "call_id": "call_Xy1", "name": "get_current_time", "type": "function_call", "id": "call_Xy1"}, {"call_id": "call_Xy1", "output": "2026-11-26T01:39:00+00:00", "type": "function_call_output"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Still noon", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (5, 'alice', '00000003-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000005', '2026-01-31 00:00:04.9995+00', '"NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc"', '"re: NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc"', false, '[{"role": "user", "content": "NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "re: NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (6, 'alice', '00000001-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000006', '2026-01-31 00:00:06+00', '"Sent twice"', '"First answer"', false, '[{"role": "user", "content": "Sent twice"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "First answer", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (7, 'alice', '00000001-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000006', '2026-01-31 00:00:08.5+00', '"Sent twice"', '"Second answer"', false, '[{"role": "user", "content": "Sent twice"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Second answer", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (8, 'bob', '00000004-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000006', '2026-01-31 00:00:10.999999+00', '"Bob''s own, with Alice''s id"', '"Hello, Bob"', false, '[{"role": "user", "content": "Bob''s own, with Alice''s id"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Hello, Bob", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (9, 'alice', '00000003-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000007', '2026-01-31 00:00:12.000001+00', '"Halves"', '"halves \ud83d, \udc00, \ude00\ud83d; a half and a whole \ud83d\ud83d\ude00; a text and a half \\ud83d\udc00"', false, '[{"role": "user", "content": "Halves"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "halves \ud83d, \udc00, \ude00\ud83d; a half and a whole \ud83d\ud83d\ude00; a text and a half \\ud83d\udc00", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (10, 'bob', '00000004-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000009', '2026-01-31 00:00:15.999999+00', '"Tell me a long story about \ud83d\ude00 and many words many words many words many words many words many words many words many words many words "', '"Once upon a time"', true, '[{"role": "user", "content": "Tell me a long story about \ud83d\ude00 and many words many words many words many words many words many words many words many words many words "}, {"role": "assistant", "content": "Once upon a time [stopped by the user]"}]');
INSERT INTO chat.turns OVERRIDING SYSTEM VALUE VALUES (11, 'bob', '00000004-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000010', '2026-01-31 00:00:17.000001+00', '"Stop at once"', '""', true, '[{"role": "user", "content": "Stop at once"}, {"role": "assistant", "content": "[stopped by the user]"}]');
INSERT INTO chat.version VALUES (2, 0);
SELECT pg_catalog.setval('chat.outbox_seq_seq', 12, true);
SELECT pg_catalog.setval('chat.turns_seq_seq', 11, true);
ALTER TABLE ONLY chat.conversations
    ADD CONSTRAINT conversations_pkey PRIMARY KEY (user_id, session_id);
ALTER TABLE ONLY chat.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (user_id, session_id);
ALTER TABLE ONLY chat.outbox
    ADD CONSTRAINT outbox_message_id_key UNIQUE (message_id);
ALTER TABLE ONLY chat.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY chat.turns
    ADD CONSTRAINT turns_pkey PRIMARY KEY (seq);
CREATE UNIQUE INDEX latest_conversations ON chat.conversations USING btree (user_id, last_seq);
CREATE INDEX outbox_of_owner ON chat.outbox USING btree (owner, seq);
CREATE INDEX outbox_of_user ON chat.outbox USING btree (user_id, sent_time);
CREATE INDEX turns_of_conversation ON chat.turns USING btree (user_id, session_id, seq);
