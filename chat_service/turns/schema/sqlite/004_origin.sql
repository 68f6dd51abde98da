ALTER TABLE chat.outbox ADD COLUMN origin TEXT;
