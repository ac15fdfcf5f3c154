CREATE TABLE {locks} (
    key text COLLATE "C" PRIMARY KEY,
    lock_id text COLLATE "C" NOT NULL,
    expires_at_ms bigint NOT NULL,
    acquired_at_ms bigint NOT NULL,
    fence text NOT NULL,
    user_key text NOT NULL
)
