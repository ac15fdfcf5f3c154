-- KEYS: reverse mapping and lock of each lease; a single reverse mapping where the lock is unknown.
-- ARGV: prefix of every lock, then lock id and ttl in ms of each lease.
-- For each: extended { 1, expires }, no longer live { 2 }, not there { 0 }, unreadable { -1 or -4, key }.
local _, now = read_clock()

local function extend(index, lock, owner, ttl)
  local problem
  if not lock then
    lock, problem = follow(index, ARGV[1])
    if not lock then return problem or { 0 } end
  end
  local stored
  stored, problem = get(lock, -1)
  if not stored then return problem or { 0 } end
  local id, expires, acquired, key, fence = parse_record(stored)
  if not id then return { -1, lock } end
  if id ~= owner then return { 0 } end
  if not is_live(expires, now) then return { 2 } end
  expires = now + ttl
  redis.call('SET', lock, format_record(id, expires, acquired, key, fence), 'PX', ttl)
  if redis.call('PEXPIRE', index, ttl) == 0 then redis.call('SET', index, lock, 'PX', ttl) end
  return { 1, expires }
end

local replies = {}
for i = 1, (#ARGV - 1) / 2 do
  replies[i] = extend(KEYS[2 * i - 1], KEYS[2 * i], ARGV[2 * i], ARGV[2 * i + 1])
end
return replies
