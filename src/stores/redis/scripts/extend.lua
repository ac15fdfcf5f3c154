-- KEYS: lock and reverse mapping of each lease; of a single one the lock, and the reverse mapping unless
-- another node of a cluster has it. ARGV: 'known', then lock id and ttl in ms of each.
-- Where the lock is unknown, KEYS: reverse mapping; ARGV: 'foreign', lock id, ttl in ms, prefix of every lock.
-- For each: extended { 1, expires }, no longer live { 2 }, not there { 0 }, unreadable { -1 or -4, key }.
local _, now = read_clock()

local function extend(lock, index, owner, ttl)
  local stored, problem = get(lock, -1)
  if not stored then return problem or { 0 } end
  local id, expires, acquired, key, fence = parse_record(stored)
  if not id then return { -1, lock } end
  if id ~= owner then return { 0 } end
  if not is_live(expires, now) then return { 2 } end
  expires = print_number(now + ttl)
  -- First the commands that an ACL is likelier to deny: what is refused then changed nothing.
  if index and redis.call('PEXPIRE', index, ttl) == 0 then redis.call('SET', index, lock, 'PX', ttl) end
  redis.call('SET', lock, format_record(id, expires, acquired, key, fence), 'PX', ttl)
  return { 1, expires }
end

if ARGV[1] == 'foreign' then
  local lock, problem = follow(KEYS[1], ARGV[4])
  if not lock then return { problem or { 0 } } end
  return { extend(lock, KEYS[1], ARGV[2], ARGV[3]) }
end
local replies = {}
for i = 1, (#ARGV - 1) / 2 do
  replies[i] = extend(KEYS[2 * i - 1], KEYS[2 * i], ARGV[2 * i], ARGV[2 * i + 1])
end
return replies
