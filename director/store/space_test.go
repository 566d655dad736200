package store

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestJudgeSpace(t *testing.T) {
	alarm := func(a pb.AlarmType) string { return (&pb.AlarmMember{MemberID: 7, Alarm: a}).String() }
	tests := []struct {
		name           string
		r              *pb.StatusResponse
		refuses, fills string // what they hold; "" = nothing
	}{
		{"well", &pb.StatusResponse{DbSizeInUse: 10, DbSizeQuota: 100}, "", ""},
		{"no leader", &pb.StatusResponse{Errors: []string{"etcdserver: no leader"}}, "", ""},
		{"filling", &pb.StatusResponse{DbSizeInUse: 80, DbSizeQuota: 100}, "", "80 %"},
		{"an older etcd tells no quota", &pb.StatusResponse{DbSizeInUse: 80}, "", ""},
		{"full", &pb.StatusResponse{DbSizeInUse: 99, DbSizeQuota: 100, Errors: []string{alarm(pb.AlarmType_NOSPACE)}}, "out of space", ""},
		{"corrupt", &pb.StatusResponse{Errors: []string{alarm(pb.AlarmType_CORRUPT)}}, "corrupt", ""},
	}
	for _, tc := range tests {
		refuses, fills := judgeSpace(tc.r)
		if (refuses == "") != (tc.refuses == "") || !strings.Contains(refuses, tc.refuses) || (fills == "") != (tc.fills == "") || !strings.Contains(fills, tc.fills) {
			t.Errorf("%s: got %q, %q, want %q, %q", tc.name, refuses, fills, tc.refuses, tc.fills)
		}
	}
}
