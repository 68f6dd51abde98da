-- The names and forms that the tables have in PostgreSQL.
ALTER TABLE analytics.messages RENAME COLUMN sent_time_us TO sent_time;
ALTER TABLE analytics.users RENAME COLUMN last_message_time_us TO last_message_time;
ALTER TABLE analytics.activity RENAME TO days_before;
-- A day is in UTC, as in 2026-01-31.
CREATE TABLE analytics.activity (
    user_id TEXT NOT NULL,
    day TEXT NOT NULL,
    message_count INTEGER NOT NULL,
    PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;
INSERT INTO analytics.activity
SELECT user_id, date(day * 86400, 'unixepoch'), message_count FROM analytics.days_before;
DROP TABLE analytics.days_before;
