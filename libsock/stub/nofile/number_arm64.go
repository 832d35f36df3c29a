package nofile

// sysPrlimit64 is the number of prlimit64(2).
const sysPrlimit64 = 261
