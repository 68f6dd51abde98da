BEGIN;
CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            message_id BLOB NOT NULL UNIQUE,
            user_id TEXT NOT NULL,
            sent_time TEXT NOT NULL
        , owner INTEGER NOT NULL DEFAULT 0, origin TEXT) STRICT;
CREATE TABLE turns (
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
CREATE TABLE conversations (
            user_id TEXT NOT NULL,
            session_id BLOB NOT NULL,
            title TEXT NOT NULL,
            update_time TEXT NOT NULL,
            turn_count INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            PRIMARY KEY (user_id, session_id)
        ) STRICT, WITHOUT ROWID;
INSERT INTO outbox VALUES (5, X'00000000000040008000000000000005', 'alice', '2026-01-31T00:00:03.500000+00:00', 4092387627904142688, NULL);
INSERT INTO outbox VALUES (6, X'00000000000040008000000000000006', 'alice', '2026-01-31T00:00:09.999500+00:00', 4092387627904142688, '00-00000000000000000000000000000006-0000000000000006-01');
INSERT INTO outbox VALUES (9, X'00000000000040008000000000000008', 'alice', '2026-01-31T00:00:11+00:00', 4092387627904142688, NULL);
INSERT INTO outbox VALUES (10, X'00000000000040008000000000000009', 'bob', '2026-01-31T00:00:12.000001+00:00', 4092387627904142688, '00-0000000000000000000000000000000a-000000000000000a-01');
INSERT INTO outbox VALUES (11, X'00000000000040008000000000000010', 'bob', '2026-01-31T00:00:14.999500+00:00', 4092387627904142688, NULL);
INSERT INTO turns VALUES (1, 'alice', X'00000001000040008000000000000000', X'00000000000040008000000000000001', '2026-01-30T23:59:52.000001+00:00', 'My dog is called Rex', 'Hello, Rex''s friend', 0, '[{"role": "user", "content": "My dog is called Rex"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Hello, Rex''s friend", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (2, 'alice', X'00000001000040008000000000000000', X'00000000000040008000000000000002', '2026-01-30T23:59:55.999999+00:00', 'Nice weather', 'Sunny', 0, '[{"role": "user", "content": "Nice weather"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Sunny", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (3, 'alice', X'00000002000040008000000000000000', X'00000000000040008000000000000003', '2026-01-30T23:59:58.500000+00:00', 'What time is it?', 'It is noon', 0, '[{"role": "user", "content": "What time is it?"}, {"id": "rs_0a1b", "summary": [{"text": "The user wants \u0000 the time", "type": "summary_text"}], "type": "reasoning"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Let me see", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}, {"arguments": "{}", "call_id": "call_Xy1", "name": "get_current_time", "type": "function_call", "id": "call_Xy1"}, {"arguments": "{\"note\":\"\\u0000 \u00fc \\\\\"}", "call_id": "call_Xy2", "name": "get_current_time", "type": "function_call", "id": "call_Xy2"}, {"call_id": "call_Xy1", "output": "2026-11-26T01:38:59+00:00", "type": "function_call_output"}, {"call_id": "call_Xy2", "output": "2026-11-26T01:38:59+00:00", "type": "function_call_output"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "It is noon", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (4, 'alice', X'00000002000040008000000000000000', X'00000000000040008000000000000004', '2026-01-31T00:00:01+00:00', 'And now?', 'Still noon', 0, '[{"role": "user", "content": "And now?"}, {"arguments": "{}", "call_id": "call_Xy1", "name": "get_current_time", "type": "function_call", "id": "call_Xy1"}, {"call_id": "call_Xy1", "output": "2026-11-26T01:38:59+00:00", "type": "function_call_output"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Still noon", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (5, 'alice', X'00000003000040008000000000000000', X'00000000000040008000000000000005', '2026-01-31T00:00:04.999500+00:00', CAST(X'4e554c20002c20455343201b2c204553432030201b302c207465787473205c7530303030205c7530303162205c7564383364205c7564633030205c5c75303030302c2071756f74657320272220616e64205c2c206c696e65e280a82c20f09f988020c3bc' AS TEXT), CAST(X'72653a204e554c20002c20455343201b2c204553432030201b302c207465787473205c7530303030205c7530303162205c7564383364205c7564633030205c5c75303030302c2071756f74657320272220616e64205c2c206c696e65e280a82c20f09f988020c3bc' AS TEXT), 0, '[{"role": "user", "content": "NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "re: NUL \u0000, ESC \u001b, ESC 0 \u001b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, quotes ''\" and \\, line\u2028, \ud83d\ude00 \u00fc", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (6, 'alice', X'00000001000040008000000000000000', X'00000000000040008000000000000006', '2026-01-31T00:00:06+00:00', 'Sent twice', 'First answer', 0, '[{"role": "user", "content": "Sent twice"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "First answer", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (7, 'alice', X'00000001000040008000000000000000', X'00000000000040008000000000000006', '2026-01-31T00:00:08.500000+00:00', 'Sent twice', 'Second answer', 0, '[{"role": "user", "content": "Sent twice"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Second answer", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (8, 'bob', X'00000004000040008000000000000000', X'00000000000040008000000000000006', '2026-01-31T00:00:10.999999+00:00', 'Bob''s own, with Alice''s id', 'Hello, Bob', 0, '[{"role": "user", "content": "Bob''s own, with Alice''s id"}, {"id": "scripted-message", "content": [{"annotations": [], "text": "Hello, Bob", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}]');
INSERT INTO turns VALUES (9, 'bob', X'00000004000040008000000000000000', X'00000000000040008000000000000009', '2026-01-31T00:00:13.500000+00:00', 'Tell me a long story about 😀 and many words many words many words many words many words many words many words many words many words ', 'Once upon a time', 1, '[{"role": "user", "content": "Tell me a long story about \ud83d\ude00 and many words many words many words many words many words many words many words many words many words "}, {"role": "assistant", "content": "Once upon a time [stopped by the user]"}]');
INSERT INTO turns VALUES (10, 'bob', X'00000004000040008000000000000000', X'00000000000040008000000000000010', '2026-01-31T00:00:15.999999+00:00', 'Stop at once', '', 1, '[{"role": "user", "content": "Stop at once"}, {"role": "assistant", "content": "[stopped by the user]"}]');
INSERT INTO conversations VALUES ('alice', X'00000001000040008000000000000000', 'My dog is called Rex', '2026-01-31T00:00:08.500000+00:00', 4, 7);
INSERT INTO conversations VALUES ('alice', X'00000002000040008000000000000000', 'What time is it?', '2026-01-31T00:00:01+00:00', 2, 4);
INSERT INTO conversations VALUES ('alice', X'00000003000040008000000000000000', CAST(X'4e554c20002c20455343201b2c204553432030201b302c207465787473205c7530303030205c7530303162205c7564383364205c7564633030e280a6' AS TEXT), '2026-01-31T00:00:04.999500+00:00', 1, 5);
INSERT INTO conversations VALUES ('bob', X'00000004000040008000000000000000', 'Bob''s own, with Alice''s id', '2026-01-31T00:00:15.999999+00:00', 3, 10);
CREATE INDEX turns_of_conversation ON turns (user_id, session_id, seq);
CREATE UNIQUE INDEX latest_conversations ON conversations (user_id, last_seq);
CREATE INDEX outbox_of_user ON outbox (user_id, sent_time);
PRAGMA user_version = 5;
COMMIT;
