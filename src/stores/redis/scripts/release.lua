-- KEYS: lock, and reverse mapping unless another node of a cluster has it; ARGV: 'known', lock id.
-- Where the lock is unknown, KEYS: reverse mapping; ARGV: 'foreign', lock id, prefix of every lock.
-- Released { 1 }, no longer live { 2 }, not there { 0 }, unreadable { -1 or -4, storage key }.
local lock, index, problem = KEYS[1], KEYS[2], nil
if ARGV[1] == 'foreign' then
  index = KEYS[1]
  lock, problem = follow(index, ARGV[3])
  if not lock then return problem or { 0 } end
end
local stored
stored, problem = get(lock, -1)
if not stored then return problem or { 0 } end
local id, expires = own_record(stored, ARGV[2])
if not id then id, expires = parse_record(stored) end
if not id then return { -1, lock } end
if id ~= ARGV[2] then return { 0 } end
local _, now = read_clock()
if not is_live(expires, now) then return { 2 } end
if index then redis.call('DEL', lock, index) else redis.call('DEL', lock) end
wake(lock, '')
return { 1 }
