CREATE SCHEMA analytics;
CREATE TABLE analytics.activity (
    user_id text NOT NULL COLLATE pg_catalog."C",
    day date NOT NULL,
    message_count bigint NOT NULL
);
CREATE TABLE analytics.messages (
    message_id uuid NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    sent_time timestamp with time zone NOT NULL
);
CREATE TABLE analytics.users (
    user_id text NOT NULL COLLATE pg_catalog."C",
    message_count bigint NOT NULL,
    last_message_time timestamp with time zone
);
CREATE TABLE analytics.version (
    version integer NOT NULL,
    oldest integer NOT NULL
);
INSERT INTO analytics.activity VALUES ('alice', '2026-01-30', 1);
INSERT INTO analytics.activity VALUES ('alice', '2026-01-31', 2);
INSERT INTO analytics.activity VALUES ('first', '-infinity', 1);
INSERT INTO analytics.activity VALUES ('last', 'infinity', 1);
INSERT INTO analytics.activity VALUES ('müller 😀', '1969-12-30', 1);
INSERT INTO analytics.activity VALUES ('müller 😀', '1969-12-31', 2);
INSERT INTO analytics.activity VALUES ('bob', '2026-02-02', 1);
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000001', 'alice', '2026-01-30 23:59:59.999999+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000002', 'alice', '2026-01-31 00:00:00+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000003', 'alice', '2026-01-31 12:00:00.000001+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000004', 'müller 😀', '1969-12-31 23:59:59.999999+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000005', 'müller 😀', '1969-12-31 00:00:00+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000006', 'müller 😀', '1969-12-30 23:59:59+00');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000007', 'first', '-infinity');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000008', 'last', 'infinity');
INSERT INTO analytics.messages VALUES ('00000000-0000-4000-8000-000000000009', 'bob', '2026-02-02 00:03:04.5+00');
INSERT INTO analytics.users VALUES ('alice', 8, '2026-01-31 12:00:00.000001+00');
INSERT INTO analytics.users VALUES ('first', 1, '-infinity');
INSERT INTO analytics.users VALUES ('last', 1, 'infinity');
INSERT INTO analytics.users VALUES ('müller 😀', 3, '1969-12-31 23:59:59.999999+00');
INSERT INTO analytics.users VALUES ('bob', 4, '2026-02-02 00:03:04.5+00');
INSERT INTO analytics.version VALUES (1, 0);
ALTER TABLE ONLY analytics.activity
    ADD CONSTRAINT activity_pkey PRIMARY KEY (user_id, day);
ALTER TABLE ONLY analytics.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (message_id);
ALTER TABLE ONLY analytics.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);
