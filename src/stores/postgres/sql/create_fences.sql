CREATE TABLE {fences} (
    fence_key text COLLATE "C" PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    key_debug text
)
