module rollama.test/pause

go 1.24
