-- KEYS: reverse mapping. ARGV: prefix of every lock. Writes nothing.
-- { 1, lock, its record, seconds, microseconds }, not there { 0 }, unreadable { -1 or -4, storage key }.
local lock, problem = follow(KEYS[1], ARGV[1])
if not lock then return problem or { 0 } end
local stored
stored, problem = get(lock, -1)
if not stored then return problem or { 0 } end
local time = redis.call('TIME')
return { 1, lock, stored, time[1], time[2] }
