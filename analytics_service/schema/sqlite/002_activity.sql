-- Derived from the messages too: days since 1970, in UTC.
CREATE TABLE analytics.activity (
    user_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;
-- Rounded down, also before 1970.
INSERT INTO analytics.activity
SELECT user_id, (sent_time_us - (sent_time_us % 86400000000 + 86400000000) % 86400000000) / 86400000000 AS day, count(*)
FROM analytics.messages GROUP BY user_id, day;
