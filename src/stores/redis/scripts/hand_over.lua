-- KEYS: lock, fence, and the reverse mappings of owner and next unless other nodes of a cluster have them.
-- ARGV: for how long the fence stays in ms ('0': for ever), owner's lock id, next lock id, ttl in ms, key as
-- JSON text, whether the turn goes to other processes ('keep': never, 'yield': if they subscribe, 'leave':
-- always), and unless never, the number of subscribers that are no others and whom a wake-up need not wake.
-- { what a release answers, what an acquire answers, or how many others the turn went to }.
local found = redis.call('MGET', KEYS[1], KEYS[2])
local stored = found[1]
local clock, now, now_text = read_clock()
local released = 0
local id, expires, acquired, _, fence
if stored then
  id, expires, acquired, _, fence = parse_record(stored)
  if not id then return { { -1, KEYS[1] } } end
  if id == ARGV[2] then released = is_live(expires, now) and 1 or 2 end
end

if ARGV[6] ~= 'keep' then
  local watchers = redis.pcall('PUBSUB', 'NUMSUB', KEYS[1] .. ':wake')
  local others = watchers.err and 0 or math.max(watchers[2] - ARGV[7], 0)
  if others > 0 or ARGV[6] == 'leave' then
    if released == 1 then
      redis.call('DEL', KEYS[1], KEYS[3] or KEYS[1])
      wake(KEYS[1], ARGV[8])
    end
    return { { released }, others }
  end
end

if stored and released ~= 1 and is_live(expires, now) then
  if id == ARGV[3] then
    return { { released }, again(KEYS[1], KEYS[4], stored, fence, acquired, expires) }
  end
  return { { released }, held(KEYS[1], expires, now) }
end
local granted = grant(KEYS[1], KEYS[2], KEYS[4], ARGV[3], ARGV[4], ARGV[5], stored, found[2], clock, now,
  now_text, ARGV[1])
if granted[1] ~= 1 then return { granted } end
if released == 1 and KEYS[3] then redis.call('DEL', KEYS[3]) end
return { { released }, granted }
