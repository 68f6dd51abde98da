-- Texts become plain, a turn keeps each of them once, and a message that analytics refuses is
-- marked. Nothing is owned by a process any more, so older programs can't go on.
UPDATE chat.version SET oldest = 3;

ALTER TABLE chat.outbox DROP COLUMN owner, ADD COLUMN refused boolean NOT NULL DEFAULT false;
DROP INDEX chat.outbox_of_user;
CREATE INDEX outbox_of_user ON chat.outbox (user_id);

-- JSON whose strings fit into the type text. What doesn't fit is encoded as in the program
-- (daca_shared/storage/postgres.py): NUL as ESC 0, and so ESC as ESC 1. Half a surrogate pair
-- stands for no character, and becomes the replacement character. Meanwhile, chr(1), which JSON
-- has only as \u0001, stands for an escaped backslash.
CREATE FUNCTION chat.storable(string json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
SELECT cast(
    replace(
        regexp_replace(
            regexp_replace(
                replace(
                    replace(replace(string::text, '\\', chr(1)), '\u001b', '\u001b1'),
                    '\u0000', '\u001b0'
                ),
                '\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})', '\\ufffd', 'g'
            ),
            '(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}', '\\ufffd', 'g'
        ),
        chr(1), '\\'
    )
    AS json)
$$;
-- The reverse, still as JSON.
CREATE FUNCTION chat.original(string json) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT replace(
    replace(
        replace(replace(string::text, '\\', chr(1)), '\u001b0', '\u0000'),
        '\u001b1', '\u001b'
    ),
    chr(1), '\\'
)
$$;

ALTER TABLE chat.turns ADD COLUMN steps text, ADD COLUMN message_count bigint,
    ADD COLUMN model text NOT NULL DEFAULT '';
UPDATE chat.turns SET steps = (
    SELECT coalesce(chat.original(json_agg(json_build_object(
        'tool', call.value -> 'name',
        'arguments', call.value -> 'arguments',
        'output', (
            SELECT answer.value -> 'output'
            FROM json_array_elements(chat.storable(turns.items)) AS answer
            WHERE answer.value ->> 'type' = 'function_call_output'
                AND answer.value ->> 'call_id' = call.value ->> 'call_id'
            LIMIT 1
        )
    ))), '[]')
    FROM json_array_elements(chat.storable(turns.items)) AS call
    WHERE call.value ->> 'type' = 'function_call'
);
ALTER TABLE chat.turns
    DROP COLUMN items,
    ALTER COLUMN steps SET NOT NULL,
    ALTER COLUMN model DROP DEFAULT,
    ALTER COLUMN prompt TYPE text USING chat.storable(prompt) #>> '{}',
    ALTER COLUMN reply TYPE text USING chat.storable(reply) #>> '{}';
ALTER TABLE chat.conversations ALTER COLUMN title TYPE text USING chat.storable(title) #>> '{}';
DROP FUNCTION chat.storable;
DROP FUNCTION chat.original;

-- Earlier versions kept a turn for each time that a message was sent. The latest keeps the id.
UPDATE chat.turns SET message_id = gen_random_uuid()
WHERE seq NOT IN (SELECT max(seq) FROM chat.turns GROUP BY user_id, message_id);
CREATE UNIQUE INDEX turn_of_message ON chat.turns (user_id, message_id);
