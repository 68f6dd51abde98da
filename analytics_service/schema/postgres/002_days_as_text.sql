-- A day is in UTC, as in 2026-01-31: the form in which it is queried and returned. The first and
-- the last possible day were stored as infinities.
UPDATE analytics.version SET oldest = 2;
ALTER TABLE analytics.activity
    ALTER COLUMN day TYPE text COLLATE "C" USING CASE day
        WHEN '-infinity' THEN '0001-01-01'
        WHEN 'infinity' THEN '9999-12-31'
        ELSE to_char(day, 'YYYY-MM-DD')
    END;
