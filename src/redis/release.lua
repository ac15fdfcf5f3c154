-- KEYS: reverse mapping, and the lock where the caller knows it. ARGV: lock id, prefix of every lock.
-- Released { 1 }, no longer live { 2 }, not there { 0 }, unreadable { -1 or -4, storage key }.
local index, lock, problem = KEYS[1], KEYS[2], nil
if not lock then
  lock, problem = follow(index, ARGV[2])
  if not lock then return problem or { 0 } end
end
local stored
stored, problem = get(lock, -1)
if not stored then return problem or { 0 } end
local id, expires = parse_record(stored)
if not id then return { -1, lock } end
if id ~= ARGV[1] then return { 0 } end
local _, now = read_clock()
if not is_live(expires, now) then return { 2 } end
redis.call('DEL', lock, index)
wake(lock)
return { 1 }
